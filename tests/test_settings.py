"""What the numbers of a config may be."""

import math

import pytest

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


@pytest.mark.parametrize("name", settings._RANGES)
def test_every_number_is_kept_within_its_range(name):
  low, high = settings._RANGES[name]
  for value in (low, min(high, 1e9)):
    settings.check_ranges(with_value(name, value))
  for value in (low - 1e-9, math.nan, high + 0.5):
    with pytest.raises(UserError, match=f"^{name} is .*must be"):
      settings.check_ranges(with_value(name, value))
