"""`hseg bench input` on PartWorld: lines, and that the same images are decoded."""

import json

import pytest
import tiny_run

from hseg_jax import cli
from hseg_jax.bench import input
from hseg_jax.data.pipeline import order
from hseg_jax.errors import UserError


def test_two_lines(tmp_path, monkeypatch):
  decoded, waited = [], []
  monkeypatch.setattr(input, "wait_for_threads", lambda longest: waited.append(len(decoded)))
  decode = input._decode
  monkeypatch.setattr(input, "_decode", lambda *a: decoded.append(a[-1]) or decode(*a))
  settings = tiny_run.config("supervised", superpixels__method="none").to_dict()
  out = tmp_path / "lines.jsonl"
  records = input.measure(settings, num_batches=1, repeats=1, out=out)
  assert [json.loads(line) for line in out.read_text().splitlines()] == records
  pipeline, decoding = records
  assert (pipeline["model"], decoding["model"]) == ("pipeline", "decoding")
  assert pipeline["images_per_s"] == pytest.approx(8 / pipeline["median_s"])
  ratio = pipeline["times_as_fast"]["decoding"]
  assert ratio == pytest.approx(decoding["median_s"] / pipeline["median_s"])
  assert (pipeline["workers"], pipeline["augment"], pipeline["superpixels"]) == (
    0,
    "supervised",
    "none",
  )
  # Four batches of eight are taken ahead.
  assert decoded == [[order(32, settings["seed"], range(32, 40))]]
  assert waited == [0]  # before anything was decoded


def test_numbers_have_to_be_positive():
  for name in ("num_batches", "repeats"):
    with pytest.raises(UserError, match=f"{name} is 0"):
      input.measure({}, **{name: 0})


def test_configs_come_by_name(capsys):
  assert cli.main(["bench", "input", "--config", "absent.py"]) == 2
  assert "absent.py" in capsys.readouterr().err
