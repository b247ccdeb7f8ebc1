"""What a run leaves behind: its config and its metrics."""

import json

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.training import workdir

CONFIG = {"seed": 0, "model": {"depths": (1, 2)}, "resume": "", "allow_config_change": False}


def test_a_config_is_compared_field_by_field(tmp_path):
  workdir.check_config(tmp_path, CONFIG, allow_change=False)  # nothing there yet
  workdir.write_config(tmp_path, CONFIG)
  assert workdir.read_config(tmp_path)["model"] == {"depths": [1, 2]}
  workdir.check_config(tmp_path, CONFIG, allow_change=False)
  workdir.check_config(tmp_path, CONFIG | {"resume": "elsewhere"}, allow_change=False)
  changed = CONFIG | {"seed": 1, "extra": 2, "model": {}}
  with pytest.raises(UserError) as error:
    workdir.check_config(tmp_path, changed, allow_change=False)
  for said in ("extra (absent -> 2)", "model.depths ([1, 2] -> absent)", "seed (0 -> 1)"):
    assert said in str(error.value)
  with pytest.raises(UserError, match=r"extra \(absent -> 1000 entries\);"):
    workdir.check_config(tmp_path, CONFIG | {"extra": ["name"] * 1000}, allow_change=False)
  workdir.check_config(tmp_path, changed, allow_change=True)
  with pytest.raises(UserError, match="no config.json"):
    workdir.read_config(tmp_path / "nowhere")


def test_a_damaged_config_is_named(tmp_path):
  for text in ('{"seed": 0', "[0]"):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="config.json is damaged"):
      workdir.check_config(tmp_path, CONFIG, allow_change=False)


def test_a_config_is_replaced_whole_or_not_at_all(tmp_path):
  workdir.write_config(tmp_path, CONFIG)
  with pytest.raises(TypeError):
    workdir.write_config(tmp_path, CONFIG | {"seed": object()})
  assert workdir.read_config(tmp_path)["seed"] == 0


def test_metrics_go_on_where_the_checkpoint_is(tmp_path):
  for start_step, steps in ((0, (0, 1, 2, 3)), (2, (3, 4))):
    writer = workdir.MetricWriter(tmp_path, start_step=start_step)
    for step in steps:
      writer.write(step, {"train/loss": float(step + start_step), "val/top1": 0.5})
    writer.write_figures(4, {"val/picture": np.zeros((2, 3, 3), np.uint8)})
    writer.close()
  lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert [(x["step"], x["train/loss"]) for x in lines] == [(0, 0), (1, 1), (2, 2), (3, 5), (4, 6)]
  summaries = [path.read_bytes() for path in (tmp_path / "summaries").iterdir()]
  assert len(summaries) == 2
  assert all(name in text for text in summaries for name in (b"val/top1", b"val/picture"))
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 5, "val/top1": 0.9}\n7\n{"step": 5, "val/to')
  assert workdir.last_metrics(tmp_path, step=4) == {"val/top1": 0.5}
  assert workdir.last_metrics(tmp_path, step=5) == {"val/top1": 0.9}
  assert workdir.last_metrics(tmp_path / "nowhere", step=5) == {}
