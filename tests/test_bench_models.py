"""`hseg bench infer` and `train` with the smallest models: lines, and what they refuse."""

import json

import numpy as np
import pytest

from hseg_jax import cli
from hseg_jax.bench import inputs, models, programs
from hseg_jax.bench.programs import Task
from hseg_jax.training import sharding

VIT = {"dim": 16, "num_heads": 2, "depths": (1,), "position_grid": (2, 2)}
CAST = VIT | {"pool_num_heads": 2, "num_clusters": (4,)}
# One block at 5 tokens, 4 patches, a head: 12 d^2 + 2 n d a token, 16^2 * 3 d a patch, 1000 d.
VIT_SMALL_MACS = 5 * (12 * 16**2 + 2 * 5 * 16) + 4 * 16**2 * 3 * 16 + 1000 * 16

COMMON = {"what", "model", "size", "batch", "dtype", "device", "images_per_s", "median_s", "cpu_s"}
COMMON |= {"repeats", "devices", "compile_s", "flops", "peak_memory", "share_of_peak"}


def bench(*words):
  fields = [word for key, value in VIT.items() for word in ("--set", f"{key}={value}")]
  return cli.main(["bench", *words, *fields])


def test_models_in_turn(tmp_path, capsys):
  out = tmp_path / "lines.jsonl"
  small = ("--size", "32", "--batch", "4", "--repeats", "3", "--out", str(out))
  assert bench("infer", "vit_conv_tiny", "vit_small", *small) == 0
  lines = [json.loads(line) for line in out.read_text().splitlines()]
  assert capsys.readouterr().out == out.read_text()
  assert [each["model"] for each in lines] == ["vit_conv_tiny", "vit_small"]
  for each, other in (lines, lines[::-1]):
    assert set(each) == COMMON | {"times_as_fast"}
    assert (each["what"], each["size"], each["batch"], each["repeats"]) == ("infer", 32, 4, 3)
    assert each["images_per_s"] == pytest.approx(4 / each["median_s"])
    assert each["devices"] == 4 and each["share_of_peak"] is None  # of a CPU nobody states one
    assert list(each["times_as_fast"]) == [other["model"]]
  assert lines[1]["flops"] == 2 * 4 * VIT_SMALL_MACS
  assert bench("infer", "vit_small", *small) == 2
  assert "lines.jsonl exists; give another file or --force" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "said"), [("file/x", "cannot be written"), (".", "give a file")])
def test_a_place_that_cannot_be_written_is_refused_first(name, said, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(models, "measure", lambda *args, **kwargs: pytest.fail("it was measured"))
  (tmp_path / "file").touch()
  assert bench("infer", "vit_small", "--out", str(tmp_path / name), "--force") == 2
  assert said in capsys.readouterr().err


@pytest.mark.parametrize("objective", ["supervised", "contrastive"])
def test_training_moves_the_parameters(objective, monkeypatch):
  monkeypatch.setitem(programs._OBJECTIVE, "hidden_dim", 16)
  task = Task("train", objective=objective, fields=VIT)
  program = programs.build("vit_small", task, inputs.draw(32, 4), sharding.make_mesh())
  losses = [float(program.call()["loss"]) for _ in range(4)]
  assert np.isfinite(losses).all() and len(set(losses)) == 4
  assert program.peak_memory > 0 and program.flops > 2 * 2 * 4 * 4 * 16**2 * 3 * 16


@pytest.mark.parametrize("method", ["given", "grid", "device"])
def test_superpixels(method, monkeypatch):
  made = []
  make = programs.experiments.make_model
  monkeypatch.setattr(programs.experiments, "make_model", lambda s: made.append(make(s)) or made[0])
  task = Task("infer", superpixels=method, num_segments=16, fields=CAST)
  batch = inputs.draw(32, 4)
  given = np.zeros((4, 32, 32), np.int32)
  batch = batch._replace(segments=given if method == "given" else None)
  program = programs.build("cast_tiny", task, batch, sharding.make_mesh())
  assert program.call().shape == (4, 1000) and program.num_segments == 16
  assert made[0].segment_mean == ("area" if method == "device" else "nearest")


def test_superpixels_beyond_the_models_room(tmp_path, capsys):
  image = inputs.draw(32, 4).image
  np.savez(tmp_path / "a.npz", image=image, segments=np.full((4, 32, 32), 16))
  words = ("--inputs", str(tmp_path / "a.npz"), "--num-segments", "16")
  assert cli.main(["bench", "infer", "cast_tiny", *words]) == 2
  assert "--num-segments 17" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("words", "said"),
  [
    (("vit_smal",), "vit_small"),
    (("vit_small", "vit_small"), "given twice"),
    (("vit_small", "--repeats", "0"), "repeats is 0"),
    (("vit_small", "--batch", "3", "--size", "32"), "batch_size 3"),
    (("vit_small", "--size", "40"), "40"),
    (("vit_small", "--inputs", "a.npz", "--size", "40"), "leave out --size"),
    (("vit_small", "--set", "dimm=3", "--size", "32"), "dimm"),
    (("vit_small", "--peer", "resnet50", "--size", "32"), "--peer resnet50"),
  ],
)
def test_mistakes_end_in_one_line(words, said, capsys, monkeypatch):
  monkeypatch.setattr(models, "BATCH", 4)
  assert cli.main(["bench", "train", *words]) == 2
  err = capsys.readouterr().err
  assert said in err and len(err.splitlines()) == 1
