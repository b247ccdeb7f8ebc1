"""Every container of the reference is known by its keys."""

import pathlib

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.interop.containers import open_container

SETTINGS = """\
dataset_kwargs:
  crop_size: 480
net_kwargs:
  image_size: !!python/tuple
  - 480
  - 480
"""


def tensors(prefix, *names):
  return {f"{prefix}{name}": np.full(2, i, np.float32) for i, name in enumerate(names)}


def test_moco_has_two_encoders():
  state = tensors("module.base_encoder.", "norm.bias", "head.0.weight")
  state |= tensors("module.momentum_encoder.", "head.0.weight", "norm.bias")
  state |= tensors("module.predictor.", "0.weight")
  content = {"epoch": 99, "arch": "cast_small", "state_dict": state, "optimizer": {}}
  online = open_container(content, pathlib.Path("x"))
  target = open_container(content, pathlib.Path("x"), encoder="target")
  assert online.kind == target.kind == "MoCo v3 checkpoint" and online.epoch == 99
  assert online.state["norm.bias"][0] == 0 and target.state["norm.bias"][0] == 1
  assert online.left_out == {"momentum_encoder": 2, "predictor": 1}
  assert target.left_out == {"base_encoder": 2, "predictor": 1}
  with pytest.raises(UserError, match="no averaged weights"):
    open_container(content, pathlib.Path("x"), ema=True)


def test_linear_probe_and_bare_state_dict():
  content = {"state_dict": tensors("module.", "norm.bias", "head.weight"), "best_acc1": 1.0}
  found = open_container(content, pathlib.Path("x"))
  assert (found.kind, found.left_out, found.epoch) == ("linear probe", {}, None)
  assert list(found.state) == ["norm.bias", "head.weight"]
  bare = open_container(tensors("", "norm.bias", "head.weight"), pathlib.Path("x"))
  assert bare.kind == "state dict" and list(bare.state) == ["norm.bias", "head.weight"]


def test_deit_has_averaged_weights():
  content = {"model": tensors("", "norm.bias"), "model_ema": tensors("", "x", "norm.bias")}
  assert open_container(content, pathlib.Path("x")).state["norm.bias"][0] == 0
  found = open_container(content, pathlib.Path("x"), ema=True)
  assert found.kind == "DeiT checkpoint (averaged weights)" and found.state["norm.bias"][0] == 1


def test_spml_has_its_classifier_beside():
  content = {
    "embedding_model": tensors("vit_backbone.", "cls_token"),
    "prediction_model": tensors("semantic_classifier.", "0.weight"),
  }
  found = open_container(content, pathlib.Path("x"))
  assert found.kind == "SPML checkpoint" and found.left_out == {}
  assert list(found.state) == ["cls_token", "semantic_classifier.0.weight"]
  content.pop("prediction_model")
  assert list(open_container(content, pathlib.Path("x")).state) == ["cls_token"]


def test_segmenter_has_its_settings_beside(tmp_path):
  model = tensors("encoder.", "cls_token") | tensors("decoder.", "cls_emb")
  content, path = {"model": model, "n_cls": 60}, tmp_path / "checkpoint.pth"
  with pytest.raises(UserError, match=r"checkpoint\.pth.*needs its variant\.yml: put it into"):
    open_container(content, path)
  (tmp_path / "variant.yml").write_text(SETTINGS)
  found = open_container(content, path)
  assert (found.kind, found.crop_size) == ("Segmenter checkpoint", 480)
  assert list(found.state) == ["cls_token", "decoder.cls_emb"]


@pytest.mark.parametrize(
  "text",
  ["", "a: [", "dataset_kwargs: 3", "dataset_kwargs: {crop_size: big}"]
  + ["dataset_kwargs: !!python/object/apply:os.system ['true']"],
)
def test_damaged_settings_are_named(tmp_path, text):
  (tmp_path / "variant.yml").write_text(text)
  content = {"model": tensors("decoder.", "cls_emb")}
  with pytest.raises(UserError, match=r"variant\.yml.*crop size"):
    open_container(content, tmp_path / "checkpoint.pth")


def test_other_content_is_named():
  with pytest.raises(UserError, match="it holds epoch, config"):
    open_container({"epoch": 3, "config": {}}, pathlib.Path("x"))
  with pytest.raises(UserError, match="it holds nothing"):
    open_container({}, pathlib.Path("x"))
