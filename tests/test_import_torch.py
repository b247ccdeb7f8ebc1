"""`hseg import-torch`: a checkpoint becomes a weights folder, or one line says why not."""

import jax.numpy as jnp
import numpy as np
from torch_states import TINY, moco_state, state_of

from hseg_jax import Segmenter, cli, create_model, load_exported
from hseg_jax.interop import exported, torch_weights
from hseg_jax.models.segments import resize_bicubic


def run(state, tmp_path, *options):
  np.savez(tmp_path / "x.npz", **state)
  command = ["import-torch", str(tmp_path / "x.npz"), "--out", str(tmp_path / "out")]
  return cli.main([*command, *options])


def refused(capsys, state, tmp_path, *options):
  """The one line of the refusal, after which there is no folder."""
  assert run(state, tmp_path, *options) == 2
  out, err = capsys.readouterr()
  assert not (tmp_path / "out").exists() and out == "" and err.count("\n") == 1
  return err


def folder_state(folder):
  """What the folder holds, under the published names."""
  flat, info = load_exported(folder)
  variables = exported.unflatten(flat)
  if (folder / "unused.safetensors").exists():
    variables["unused"] = exported.load_tensors(folder / "unused.safetensors")
  return torch_weights.export_torch(variables, create_model(**info["model"]))


def assert_equal(found, wanted):
  assert found.keys() == wanted.keys()
  for key, value in found.items():
    np.testing.assert_array_equal(value, wanted[key], err_msg=key)


def test_nothing_in_the_folder_is_overwritten_by_accident(tmp_path, capsys):
  for name in ("model.json", "model.safetensors", "README.md", "pytorch_model.safetensors"):
    (tmp_path / name).write_text("mine")
    (tmp_path / "x.npz").touch()
    for command in ("import-torch", str(tmp_path / "x.npz")), ("export", "--workdir", "none"):
      assert cli.main([*command, "--out", str(tmp_path)]) == 2
      assert f"{name} exists; give another folder or --force" in capsys.readouterr().err
    (tmp_path / name).unlink()


def test_a_state_dict_becomes_a_folder_that_segments(tmp_path, capsys):
  state = state_of(create_model("cast_tiny", num_classes=3), seed=0)
  (tmp_path / "names.txt").write_text("cat\ndog\n\ncow\n")
  assert run(state, tmp_path, "--class-names", str(tmp_path / "names.txt")) == 0
  said = capsys.readouterr().out
  assert "x.npz: state dict: cast_tiny" in said and "linear head of 3" in said
  assert "num_clusters=(32, 16, 8, 4)" in said and "num_heads=4" in said
  info = load_exported(tmp_path / "out")[1]
  assert "`x.npz` (state dict)" in (tmp_path / "out/README.md").read_text()
  assert info["class_names"] == ["cat", "dog", "cow"]
  assert info["preprocessing"]["image_size"] == 64
  assert info["preprocessing"]["superpixels"] == {
    "method": "seeds",
    "num_segments": 64,
    "bins": 15,
    "iterations": 20,
  }
  assert_equal(folder_state(tmp_path / "out"), state)
  assert Segmenter.from_exported(tmp_path / "out").class_names == ("cat", "dog", "cow")


def test_an_existing_folder_is_kept(tmp_path, capsys):
  state = state_of(create_model("vit_conv_tiny"))
  assert run(state, tmp_path) == 0
  assert run(state, tmp_path) == 2
  assert "model.json exists" in capsys.readouterr().err
  assert run(state, tmp_path, "--force", "--set", "num_heads=2") == 0
  assert load_exported(tmp_path / "out")[1]["model"]["num_heads"] == 2


def test_what_is_never_applied_is_kept_beside(tmp_path, capsys):
  model = create_model("cast_small_seg", **TINY, position="learned", num_classes=0)
  state = state_of(model, seed=0)
  state |= {"norm.weight": np.ones(48, np.float32), "head.bias": np.ones(9, np.float32)}
  assert run(state, tmp_path) == 0
  assert "unused.safetensors" in capsys.readouterr().out
  assert_equal(folder_state(tmp_path / "out"), state)


def test_encoders_and_heads_are_chosen(tmp_path, capsys):
  fields = dict(head_kind="projector", head_hidden_dim=16, num_classes=8)
  state = moco_state(create_model("cast_small", **TINY, **fields))
  inside = lambda name: torch_weights.encoder_state(state, name)
  assert run(state, tmp_path) == 0
  assert_equal(folder_state(tmp_path / "out"), inside("online"))
  assert "left out: 1 tensors of predictor" in capsys.readouterr().out
  assert run(state, tmp_path, "--force", "--encoder", "target", "--head", "drop") == 0
  headless = {key: x for key, x in inside("target").items() if not key.startswith("head.")}
  assert_equal(folder_state(tmp_path / "out"), headless)


def test_positions_are_resized_for_another_image_size(tmp_path):
  state = state_of(create_model("cast_small_seg", **TINY), seed=0)
  assert run(state, tmp_path, "--image-size", "512") == 0
  flat, info = load_exported(tmp_path / "out")
  table = state["pos_embed"].reshape(8, 8, 48)
  np.testing.assert_array_equal(
    flat["params/position/table"], resize_bicubic(jnp.asarray(table), 64, 64)
  )
  model = create_model(**info["model"])
  assert model.position_grid == (64, 64) and model.num_clusters == (320, 160, 80, 40)
  assert info["preprocessing"]["image_size"] == 512
  assert info["preprocessing"]["superpixels"]["num_segments"] == 1024


def test_segmenter_sees_crops_of_the_size_it_was_trained_on(tmp_path):
  fields = dict(position="learned", output="segments", segment_mean="bilinear")
  model = create_model(
    "cast_small_seg", **TINY | fields, head_kind="mask_transformer", num_classes=5
  )
  (tmp_path / "variant.yml").write_text("dataset_kwargs: {crop_size: 480}\n")
  state = state_of(model, seed=0)
  assert run(state, tmp_path) == 0
  info = load_exported(tmp_path / "out")[1]
  assert info["preprocessing"]["image_size"] == 480
  assert info["preprocessing"]["superpixels"]["num_segments"] == 900
  assert info["preprocessing"]["superpixels"]["bins"] == 5
  assert tuple(info["model"]["position_grid"]) == (8, 8)
  assert_equal(folder_state(tmp_path / "out"), state)


def test_mistakes_get_one_line_and_no_folder(tmp_path, capsys):
  state = state_of(create_model("cast_small", **TINY))
  say = lambda *options: refused(capsys, state, tmp_path, *options)
  assert "no field 'num_clustres': did you mean 'num_clusters'" in say("--set", "num_clustres=3")
  assert "--set num_heads needs a value" in say("--set", "num_heads")
  assert "num_heads=5 does not divide dim=48" in say("--set", "num_heads=5")
  assert "init='deti' is not one of" in say("--set", "init=deti")
  assert "num_clusters=64 has to be several numbers" in say("--set", "num_clusters=64")
  assert "num_heads=(3, 3) has to be one number" in say("--set", "num_heads=3,3")
  assert "drop_path=abc is no rate" in say("--set", "drop_path=abc")
  assert "mlp_ratio=x is not positive" in say("--set", "mlp_ratio=x")
  assert "no field of the model: --model cast_base" in say("--set", "name=cast_base")
  assert "did you mean 'cast_tiny'" in say("--model", "cast_tin")
  assert "cls_token (1, 1, 48) instead of (1, 1, 768)" in say("--model", "cast_base")
  assert "unexpected: blocks1.0" in say("--model", "vit_conv_small")
  assert "not a multiple of the stride, 8" in say("--image-size", "100")
  for size in ("0", "8", "100000"):
    assert "is not between 64 and 4096" in say("--image-size", size)
  assert "no momentum encoder" in say("--encoder", "target")
  assert "no averaged weights" in say("--ema")
  assert "cannot be read" in say("--class-names", str(tmp_path / "absent.txt"))
  (tmp_path / "names.txt").write_text("cat\n")
  assert "names 1 classes, the model has 1000" in say("--class-names", str(tmp_path / "names.txt"))
  state["surprise"], state["norm.bias"] = np.zeros(1), np.zeros(2)
  assert "unexpected: surprise; misshapen: norm.bias (2,)" in say()
  state = {"conv1.weight": np.zeros((64, 3, 7, 7))}
  assert "no weights of a CAST" in say()
