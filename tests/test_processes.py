"""Work in several processes: the same results, errors that come through, and no orphans."""

import math
import operator
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from hseg_jax import processes
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers):
  done = []
  found = processes.run(math.sqrt, [9, 4, 1], workers, lambda: done.append(1))
  assert found == [3, 2, 1] and len(done) == 3
  assert processes.run(math.sqrt, [], workers) == []


def test_each_process_has_one_thread(monkeypatch):
  monkeypatch.setenv("OMP_NUM_THREADS", "7")
  monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
  names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS"]
  assert processes.run(os.getenv, names, 2) == ["1", "1"]
  assert [os.getenv(name) for name in names] == ["7", None]


def test_errors_come_through(tmp_path):
  with pytest.raises(UserError, match="There is no hierarchy file .*/a.npz"):
    processes.run(Hierarchy.load, [tmp_path / "a.npz"] * 2, 2)
  with pytest.raises(ZeroDivisionError):
    processes.run(operator.methodcaller("__floordiv__", 0), [1, 2], 2)
  with pytest.raises(UserError, match="died"):
    processes.run(os._exit, [3, 4], 2)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_theirs(sent):
  code = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
  code += "from hseg_jax import processes; processes.run(time.sleep, [0, 99, 99], 2, "
  code += "lambda: print('started', flush=True))"
  parent = subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
  )
  assert parent.stdout.readline() == b"started\n"
  children = pathlib.Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
  assert len(children) >= 2
  parent.send_signal(sent)
  parent.wait(10)
  deadline = time.monotonic() + 10
  while any(map(alive, children)) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not any(map(alive, children))


def test_an_interrupt_of_starting_processes_says_nothing():
  # A shell's background jobs ignore interrupts, and so would all that they start.
  code = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
  code += "from hseg_jax import processes; print('started', flush=True); "
  code += "processes.run(time.sleep, [99, 99], 2)"
  parent = subprocess.Popen(
    [sys.executable, "-c", code],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  assert parent.stdout.readline() == "started\n"
  own = pathlib.Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
  # The moment between the start of Python and of the work; where it is missed, nothing is lost.
  deadline = time.monotonic() + 5
  while sum(map(catches_interrupts, own.read_text().split())) < 2 and time.monotonic() < deadline:
    time.sleep(0.001)
  time.sleep(0.2)  # into their imports
  os.killpg(parent.pid, signal.SIGINT)  # as from a terminal
  assert parent.communicate(timeout=20)[1].count("Traceback") == 1  # its own, which cli catches
  assert parent.returncode == -signal.SIGINT


def catches_interrupts(pid):
  try:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
  except OSError:
    return False
  caught = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
  return bool(int(caught, 16) >> signal.SIGINT - 1 & 1)


def alive(pid):
  try:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
  except OSError:
    return False
