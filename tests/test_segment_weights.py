"""`Segmenter.from_exported`: options that are put upon weights, and weights that are refused."""

import numpy as np
import pytest

from hseg_jax import segment
from hseg_jax.errors import UserError
from hseg_jax.interop import exported
from tests.tiny_segmenter import FIELDS, NAMES, built, photograph, quick_forward, save


def test_options_of_an_exported_model(tmp_path, monkeypatch):
  traced = []
  monkeypatch.setattr(segment, "read", quick_forward(traced))
  save(tmp_path)
  plain = segment.Segmenter.from_exported(tmp_path)
  assert plain.class_names == NAMES and plain.size == 32
  finer = segment.Segmenter.from_exported(tmp_path, size=64, num_segments=60, num_clusters=(20, 9))
  hierarchy = finer(photograph(3, 50, 75))
  assert traced == [(1, 64, 96, 3)]
  assert 32 < hierarchy.sizes[0] <= 60 and hierarchy.sizes[1] == 20


def test_refuses_a_folder_without_preprocessing(tmp_path):
  exported.save(tmp_path, built()[1], {"model": {"name": "cast_tiny", **FIELDS}})
  with pytest.raises(UserError, match="preprocessing"):
    segment.Segmenter.from_exported(tmp_path)


def test_weights_trained_along_paths_may_be_used_without(tmp_path):
  flat, info = exported.load_exported(save(tmp_path))
  flat["params/pool_0/path/scale"] = np.float32(0)
  exported.save(tmp_path, exported.unflatten(flat), info)
  segment.Segmenter.from_exported(tmp_path)
  info["model"]["assignment"] = "path"
  exported.save(
    tmp_path, exported.unflatten({**flat, "params/pool_0/path/scale": np.ones(2)}), info
  )
  with pytest.raises(UserError, match=r"scale has shape \[2\], in the model \[\]"):
    segment.Segmenter.from_exported(tmp_path)


@pytest.mark.parametrize(
  "change, words",
  [
    (lambda flat, info: info["model"].update(num_classes=6), r"bias has shape \[5\], .* \[6\]"),
    (lambda flat, info: flat.pop("params/stem/conv_0/kernel"), "kernel has shape absent"),
    (lambda flat, info: flat.update(extra=np.zeros(2)), r"extra has shape \[2\], .* absent"),
    (lambda flat, info: info.update(model=None), "does not describe a model"),
    (lambda flat, info: info.pop("class_names"), "says nothing of 'class_names'"),
  ],
)  # fmt: skip
def test_weights_of_another_model_are_refused(tmp_path, change, words):
  flat, info = exported.load_exported(save(tmp_path))
  change(flat, info)
  exported.save(tmp_path, exported.unflatten(flat), info)
  with pytest.raises(UserError, match=words):
    segment.Segmenter.from_exported(tmp_path)
