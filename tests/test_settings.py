"""What the numbers of a config may be."""

import math

import pytest
from ml_collections import ConfigDict

from configs import common
from hseg_jax import settings
from hseg_jax.errors import UserError


def with_value(name, value):
  config = common.base().to_dict()
  *groups, key = name.split(".")
  node = config
  for group in groups:
    node = node[group]
  node[key] = value
  return config


def test_the_defaults_pass():
  settings.check_ranges(common.base().to_dict())


def numbers(config, prefix=""):
  """Dotted names of the fields that hold numbers; the models check theirs themselves."""
  for key in set(config) - {"model"}:
    if config.get_type(key) in (int, float):
      yield prefix + key
    elif config.get_type(key) is ConfigDict:
      yield from numbers(config[key], f"{prefix}{key}.")


def test_no_number_goes_without_a_range():
  assert set(numbers(common.base())) == settings._RANGES.keys()


@pytest.mark.parametrize("name", settings._RANGES)
def test_every_number_is_kept_within_its_range(name):
  low, high = settings._RANGES[name]
  for value in (low, min(high, 1e9)):
    settings.check_ranges(with_value(name, value))
  for value in (low - 1e-9, math.nan, high + 0.5):
    with pytest.raises(UserError, match=f"^{name} is .*must be"):
      settings.check_ranges(with_value(name, value))


@pytest.mark.parametrize("name", ["optimizer.b1", "optimizer.b2", "optimizer.ema"])
def test_an_average_that_never_moves_is_refused(name):
  with pytest.raises(UserError, match=f"^{name} is 1"):
    settings.check_ranges(with_value(name, 1.0))


def test_histograms_beyond_memory_are_refused():
  with pytest.raises(UserError, match="superpixels.bins is 300; it must be between 1 and 64"):
    settings.check_ranges(with_value("superpixels.bins", 300))


@pytest.mark.parametrize("name", settings._OPTION_RANGES)
def test_options_of_evaluators_are_kept_within_their_range(name):
  low, high = settings._OPTION_RANGES[name]
  config = common.base().to_dict()
  for value in (low, min(high, 1e9)):
    settings.check_ranges({**config, "evaluators": {"hierarchy": {name: value}}})
  for value in (low - 1e-9, math.nan, math.inf):
    with pytest.raises(UserError, match=f"^evaluators.hierarchy.{name} is .*must be"):
      settings.check_ranges({**config, "evaluators": {"hierarchy": {name: value}}})


@pytest.mark.parametrize(
  "options",
  [
    common.knn(bank_size=1),
    common.linear_probe(),
    common.retrieval(),
    common.hierarchy(),
    common.adaptation(),
    common.part_whole(),
    common.figure_ground(),
  ],
)
def test_the_defaults_of_evaluators_pass(options):
  settings.check_ranges({**common.base().to_dict(), "evaluators": {"its_name": options}})
