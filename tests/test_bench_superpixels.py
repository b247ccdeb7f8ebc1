"""`hseg bench superpixels` on two small images: lines, table, and what it refuses."""

import json

import cv2
import numpy as np
import pytest

from hseg_jax import cli
from hseg_jax.scoring import superpixels as scoring


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  root = tmp_path_factory.mktemp("data")
  for folder in ("images/val", "masks/val"):
    (root / folder).mkdir(parents=True)
  for i, name in enumerate("ab"):
    truth = np.kron(np.random.default_rng(i).integers(1, 200, (3, 3)), np.ones((9, 9), int))
    cv2.imwrite(str(root / f"images/val/{name}.png"), np.stack([truth] * 3, -1).astype(np.uint8))
    for annotator in (1, 2):
      cv2.imwrite(str(root / f"masks/val/{name}_{annotator}.png"), truth.astype(np.uint8))
  return root


def bench(data, *options):
  small = ("--size", "27", "--num-segments", "81", "--batch-size", "2")
  return cli.main(["bench", "superpixels", "--data", str(data), *small, *options])


def test_a_line_for_every_measurement(data, tmp_path, capsys):
  assert bench(data, "--out", str(tmp_path / "lines.jsonl")) == 0
  lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
  assert [(each["model"], each["batch"]) for each in lines] == [
    ("seeds", 1),
    ("grid", 1),
    ("device", 1),
    ("device", 2),
    ("slic", 1),
    ("slic", 2),
  ]
  for each in lines:
    assert each["what"] == "superpixels" and each["size"] == 27
    assert each["images_per_s"] == pytest.approx(each["batch"] / each["median_s"])
  by_name = {each["model"]: each for each in lines if each["batch"] == 1}
  # The grid's cells of three pixels lie in the truth's of nine.
  for name in ("grid", "device"):
    assert by_name[name]["achievable_accuracy"] == by_name[name]["connected"] == 1
    assert by_name[name]["num_segments"] == 81 and by_name[name]["num_images"] == 2
  assert by_name["grid"]["compactness"] == pytest.approx(np.pi / 4)
  assert set(scoring.SuperpixelScores._fields) <= set(by_name["slic"])
  out = capsys.readouterr().out
  assert [line for line in out.splitlines() if line.startswith("{")][0] == json.dumps(lines[0])
  for name in by_name:
    assert any(line.startswith(name) for line in out.splitlines())
  assert bench(data, "--out", str(tmp_path / "lines.jsonl")) == 2
  assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("options", "said"),
  [
    (("--split", "test"), "neither"),
    (("--num-images", "0"), "num_images is 0"),
    (("--batch-size", "0"), "batch_size is 0"),
    (("--num-segments", "9"), "fewer than 10"),
  ],
)
def test_mistakes_end_in_one_line(data, options, said, capsys):
  assert bench(data, *options) == 2
  err = capsys.readouterr().err
  assert said in err and len(err.splitlines()) == 1
