"""The line of progress: rewritten on a terminal, sparse elsewhere."""

import itertools

import pytest

from hseg_jax import progress


def run(monkeypatch, terminal, seconds):
  """Three things at one every so many seconds."""
  clock = itertools.count(0, seconds)
  monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
  monkeypatch.setattr(progress.sys.stdout, "isatty", lambda: terminal, raising=False)
  with progress.Progress(3, "images") as line:
    for _ in range(3):
      line.advance()


def test_lines_are_written_now_and_then(monkeypatch, capsys):
  run(monkeypatch, False, 6)
  assert capsys.readouterr().out.splitlines() == [
    "2/3 images  0.2 images/s  0 min 6 s left",
    "3 images in 24.0 s  0.1 images/s",
  ]


def test_a_terminal_keeps_one_line(monkeypatch, capsys):
  run(monkeypatch, True, 1)
  out = capsys.readouterr().out
  assert out.count("\n") == 1 and out.count("\r\033[K") == 4
  assert "2/3 images  1.0 images/s  0 min 1 s left\r" in out


def test_nothing_is_said_of_nothing(monkeypatch, capsys):
  with pytest.raises(ZeroDivisionError), progress.Progress(3, "images"):
    raise ZeroDivisionError
  assert capsys.readouterr().out == ""
