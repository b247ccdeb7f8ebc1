"""Tests of measuring models of timm beside ours."""

import sys

import pytest

from hseg_jax.bench import inputs, peer
from hseg_jax.bench.programs import Task
from hseg_jax.errors import UserError

NAME = "timm:vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def batch():
  return inputs.draw(224, 1)


@pytest.mark.parametrize("absent", ["torch", "timm"])
def test_says_what_to_install(monkeypatch, batch, absent):
  monkeypatch.setitem(sys.modules, absent, None)
  with pytest.raises(UserError, match=r"hseg_jax\[peer\]"):
    peer.build(NAME, Task("infer"), batch)


@pytest.mark.parametrize("what", ["infer", "train"])
def test_runs(batch, what):
  pytest.importorskip("timm")
  program = peer.build(NAME, Task(what), batch)
  assert program.call() is None and program.num_segments == 0


@pytest.mark.parametrize(
  ("name", "task", "size", "said"),
  [
    ("timm:vit_of_nobody", Task("infer"), 224, "vit_of_nobody"),
    (NAME, Task("infer"), 32, "224 pixels"),
    (NAME, Task("train", objective="contrastive"), 224, "supervised"),
  ],
)
def test_refuses_what_it_cannot_do(name, task, size, said):
  pytest.importorskip("timm")
  with pytest.raises(UserError, match=said):
    peer.build(name, task, inputs.draw(size, 1))
