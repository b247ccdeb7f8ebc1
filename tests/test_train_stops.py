"""Runs that are killed or told to stop, and how they go on."""

import pathlib
import signal
import subprocess
import sys

import pytest
import tiny_run
from test_train import assert_equal, lines

from hseg_jax import train
from hseg_jax.training import checkpoint

TESTS = pathlib.Path(__file__).parent


@pytest.mark.slow
def test_resume_after_a_kill_is_exact(tmp_path):
  script = """
import os, pathlib, signal, sys, time
sys.path.insert(0, sys.argv[1])
import tiny_run
from PIL import Image
from hseg_jax import experiment, train

original = experiment.train_batches

def until_killed(e, start_step):
  for i, batch in enumerate(original(e, start_step)):
    if i == 11:
      while not pathlib.Path(sys.argv[2], "checkpoints/8").exists():
        time.sleep(0.1)
      os.kill(os.getpid(), signal.SIGKILL)
    yield batch

experiment.train_batches = until_killed
train.train_and_evaluate(
  tiny_run.config(num_steps=16, checkpoint__every_steps=8, eval_every_steps=16), sys.argv[2]
)
"""
  config = tiny_run.config(num_steps=16, checkpoint__every_steps=8, eval_every_steps=16)
  train.train_and_evaluate(config, tmp_path / "whole")
  killed = subprocess.run([sys.executable, "-c", script, str(TESTS), str(tmp_path / "killed")])
  assert killed.returncode == -signal.SIGKILL
  assert (tmp_path / "killed/checkpoints/8").exists()
  train.train_and_evaluate(config, tmp_path / "killed")
  found, wanted = (checkpoint.load(tmp_path / name, 16) for name in ("killed", "whole"))
  assert {"params", "batch_stats", "opt_state", "target", "ema"} <= wanted.keys()
  assert_equal(found, wanted)
  losses = [
    [(line["step"], line["train/loss"]) for line in lines(tmp_path / name) if "train/loss" in line]
    for name in ("killed", "whole")
  ]
  assert losses[0] == losses[1]


@pytest.mark.slow
def test_sigterm_leads_to_a_saved_step(tmp_path):
  script = """
import sys
sys.path.insert(0, sys.argv[1])
import tiny_run
from PIL import Image
from hseg_jax import train

config = tiny_run.config("supervised", num_steps=100_000, checkpoint__every_steps=50_000)
train.main(config, sys.argv[2])
"""
  command = [sys.executable, "-c", script, str(TESTS), str(tmp_path)]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    while not process.stdout.readline().startswith("step 3/"):
      assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
  assert process.returncode == 0 and "Preempted at step" in output
  saved = max(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
  assert 3 <= saved < 50_000 and checkpoint.load(tmp_path)["step"] == saved


def test_sigterm_ends_an_evaluation():
  script = """
import os, signal, time
from hseg_jax import evaluate

def forever(*args, **kwargs):
  os.kill(os.getpid(), signal.SIGTERM)
  time.sleep(60)

evaluate.evaluate = forever
evaluate.main({}, workdir=None, weights=None, out="")
"""
  assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGTERM
