"""Tests of measuring a model as something grows."""

import json

import pytest

from hseg_jax import cli
from hseg_jax.bench.scale import Point, list_points


def test_one_thing_changes_at_a_time():
  lists = Point((32, 64), (4,), (16, 32), (1, 2))
  assert list_points(lists) == [(32, 4, 16, 1), (64, 4, 16, 1), (32, 4, 32, 1), (32, 4, 16, 2)]


def scale(*words):
  small = ("--model", "vit_small", "--repeats", "1", "--batches", "2", "--num-segments", "16")
  fields = (
    "--set",
    "dim=16",
    "--set",
    "num_heads=2",
    "--set",
    "depths=(1,)",
    "--set",
    "position_grid=(2,2)",
  )
  return cli.main(["bench", "scale", *small, *fields, *words])


def test_a_line_for_every_point(capsys):
  assert scale("--sizes", "32,48", "--devices", "1,4") == 0
  lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [(e["size"], e["batch"], e["devices"]) for e in lines] == [
    (32, 2, 1),
    (48, 2, 1),
    (32, 8, 4),
  ]
  assert lines[2]["flops"] == 4 * lines[0]["flops"] and lines[1]["flops"] > lines[0]["flops"]


@pytest.mark.parametrize(
  ("words", "said"),
  [
    (("--sizes", "32", "--devices", "5"), "5 devices"),
    (("--sizes", "0"), "'0' is no whole number from 1 on"),
    (("--sizes", "32,a"), "'a' is no whole number from 1 on"),
  ],
)
def test_mistakes_end_in_one_line(words, said, capsys):
  assert scale(*words) == 2
  err = capsys.readouterr().err
  assert said in err and len(err.splitlines()) == 1
