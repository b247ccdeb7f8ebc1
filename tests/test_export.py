"""Export: a run's model with everything that others need to use it."""

import functools
import json

import jax
import numpy as np
import pytest

import hseg_jax
from hseg_jax import cli, export
from hseg_jax.errors import UserError
from hseg_jax.interop import exported, hub, torch_weights

MODEL = dict(
  name="cast_tiny",
  num_classes=3,
  dim=16,
  depths=(1, 1),
  num_heads=2,
  pool_num_heads=2,
  num_segments=16,
  num_clusters=(6, 3),
  stem_strides=(2, 2),
  position_grid=(8, 8),
)
SETTINGS = {
  "model": MODEL,
  "data": {"source": "folder", "name": "", "root": "/home/me/pets", "image_size": 32},
  "superpixels": {"method": "seeds", "num_segments": 16, "bins": 5, "iterations": 5},
  "objective": {"name": "supervised"},
  "class_names": ["n1", "n2", "n3"],
  "batch_size": 4,
  "init_from": "runs/first",
}


@functools.cache
def variables():
  model = hseg_jax.create_model(**MODEL)
  labels = np.zeros((1, 32, 32), np.int32)
  init = jax.jit(functools.partial(model.init, train=False))
  return jax.device_get(init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), labels))


@pytest.fixture
def run(tmp_path, monkeypatch):
  """The folder of a run of two evaluations."""
  monkeypatch.setattr(export, "load_run", lambda workdir: (variables(), 20, SETTINGS))
  lines = [{"step": 10, "val/top1": 0.1}, {"step": 20, "val/top1": 0.5, "train/loss": 1}]
  folder = tmp_path / "run"
  folder.mkdir()
  (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  return folder


def test_writes_what_others_need(run, tmp_path):
  names = tmp_path / "names.csv"
  names.write_text('class,name\nn3,elk\nn1,"ant, an insect"\nn2,bee\nn4,fly\n')
  out = tmp_path / "out"
  export.export(run, out, dataset="Pets", terms="Be kind.", license="mit", class_names=names)
  assert {p.name for p in out.iterdir()} == {"model.safetensors", "model.json", "README.md"}
  flat, info = hseg_jax.load_exported(out)
  for name, value in exported.flatten(variables()).items():
    np.testing.assert_array_equal(flat[name], value)
  assert info["name"] == "cast_tiny" and hseg_jax.create_model(**info["model"]).dim == 16
  assert info["preprocessing"]["image_size"] == 32 and len(info["preprocessing"]["mean"]) == 3
  assert info["preprocessing"]["superpixels"] == SETTINGS["superpixels"]
  assert info["class_names"] == ["ant, an insect", "bee", "elk"]
  assert info["num_parameters"] == sum(v.size for n, v in flat.items() if n.startswith("params/"))
  assert (info["step"], info["metrics"], info["regions"]) == (20, {"val/top1": 0.5}, [6, 3])
  assert (info["dataset"], info["terms"], info["license"]) == ("Pets", "Be kind.", "mit")
  # Where the data lie is nobody's business.
  assert info["config"]["data"]["root"] == "pets" and info["config"]["init_from"] == "runs/first"
  card = (out / "README.md").read_text()
  assert "Trained on Pets" in card and "Be kind." in card and "| val/top1 | 0.5 |" in card


def test_half_precision_and_the_program_hold_the_same_parameters(run, tmp_path):
  export.export(run, tmp_path / "out", half=True, program=True)
  flat, info = hseg_jax.load_exported(tmp_path / "out")
  assert info["half"] and not np.array_equal(
    flat["params/head/kernel"], variables()["params"]["head"]["kernel"]
  )
  segmenter = hseg_jax.Segmenter.from_pretrained(tmp_path / "out")
  image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
  hierarchy = segmenter(image)
  data = bytearray((tmp_path / "out" / info["program"]["file"]).read_bytes())
  found = jax.export.deserialize(data).call(image[None], hierarchy.segments[None])
  probabilities = jax.nn.softmax(found["logits"][0])
  np.testing.assert_allclose(hierarchy.probabilities, probabilities, atol=1e-6)
  export.export(run, tmp_path / "out")
  assert not (tmp_path / "out/model.stablehlo").exists()


def test_pytorch_weights_are_the_same_weights(run, tmp_path):
  command = ["export", "--workdir", str(run), "--out", str(tmp_path / "out")]
  assert cli.main([*command, "--torch"]) == 0
  tensors = exported.load_tensors(tmp_path / "out" / "pytorch_model.safetensors")
  converted = torch_weights.convert(tensors, hseg_jax.create_model(**MODEL))
  jax.tree.map(np.testing.assert_array_equal, converted, dict(variables()))
  assert "pytorch_model.safetensors" in (tmp_path / "out" / "README.md").read_text()
  assert cli.main([*command, "--force"]) == 0
  assert not (tmp_path / "out" / "pytorch_model.safetensors").exists()


@pytest.mark.parametrize(
  "fields", [{"assignment": "path"}, {"segment_mean": "area"}, {"segment_mean": "bilinear"}]
)
def test_pytorch_knows_no_paths_and_other_means(fields, run, tmp_path, monkeypatch):
  settings = {**SETTINGS, "model": {**MODEL, **fields}}
  monkeypatch.setattr(export, "load_run", lambda workdir: ({}, 20, settings))
  with pytest.raises(UserError, match="export without --torch"):
    export.export(run, tmp_path / "out", torch=True)
  assert not (tmp_path / "out").exists()


def test_classes_without_a_readable_name_are_named(run, tmp_path):
  (tmp_path / "names.csv").write_text("n1,ant\n")
  with pytest.raises(UserError, match="no readable name for n2, n3"):
    export.export(run, tmp_path / "out", class_names=tmp_path / "names.csv")
  with pytest.raises(UserError, match="cannot be read"):
    export.export(run, tmp_path / "out", class_names=tmp_path / "none.csv")
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("data", "expected"),
  [
    ({"source": "folder", "name": ""}, ""),
    ({"source": "partworld", "name": ""}, "PartWorld, drawn by hseg_jax"),
    ({"source": "tfds", "name": "imagenet2012"}, "imagenet2012"),
  ],
)
def test_a_run_knows_only_data_with_a_name(data, expected):
  settings = SETTINGS | {"data": SETTINGS["data"] | data}
  assert export.describe(settings, variables())["dataset"] == expected


def test_pushes_what_it_wrote_from_the_command_line(run, tmp_path, monkeypatch, capsys):
  pushed = []
  monkeypatch.setattr(hub, "check_push", lambda name: None)
  monkeypatch.setattr(hub, "push", lambda *arguments: pushed.append(arguments) or "https://x/me/y")
  out = str(tmp_path / "out")
  command = ["export", "--workdir", str(run), "--out", out, "--half", "--dataset", "Pets"]
  assert cli.main([*command, "--push", "me/y"]) == 0
  assert pushed == [(out, "me/y", ["model.safetensors", "model.json", "README.md"])]
  assert capsys.readouterr().out == "pushed to https://x/me/y\n"
  info = json.loads((tmp_path / "out/model.json").read_text())
  assert info["half"] and info["dataset"] == "Pets"


def test_a_refused_push_writes_nothing(run, tmp_path, capsys):
  command = ["export", "--workdir", str(run), "--out", str(tmp_path / "out"), "--push", "me"]
  assert cli.main(command) == 2
  assert "give OWNER/NAME" in capsys.readouterr().err and not (tmp_path / "out").exists()
