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
  code = "import time; from hseg_jax import processes; processes.run(time.sleep, [0, 99, 99], 2, "
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


def alive(pid):
  try:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
  except OSError:
    return False
