"""Tests of how a process gets its memory."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys

import pytest

from hseg_jax import allocation

# Says whether a program is over when its call returns.
_CALL = """
from hseg_jax import allocation
assert allocation.adapt({})
import jax
squares = jax.jit(lambda x: jax.lax.fori_loop(0, 20, lambda i, x: x @ x, x))
print(squares(jax.numpy.ones((1000, 1000))).is_ready())
"""

# Frees and allocates 256 MB ten times, then 3 GB without use; prints how many pages the system had
# to make, how much of the large block it got back, and how many KB are in huge pages.
_BLOCKS = """
import ctypes, resource, sys
from hseg_jax import allocation
assert allocation.adapt({})
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.sbrk.restype = ctypes.c_void_p
for turn in range(10):
  block = libc.malloc(2**28)
  ctypes.memset(block, 1, 2**28)
  libc.free(block)
pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
block = libc.malloc(3 * 2**30)
end = libc.sbrk(0)
libc.free(block)
huge = [line.split()[1] for line in open("/proc/self/smaps_rollup") if "AnonHugePages" in line]
print(pages, end - libc.sbrk(0), *huge)
"""


@pytest.fixture
def mallopt(monkeypatch):
  """The calls of mallopt, which are not made."""
  calls = []

  class Library:
    mallopt = staticmethod(lambda *call: calls.append(call) or 1)

  monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: Library)
  monkeypatch.setattr(allocation.platform, "libc_ver", lambda: ("glibc", "2.36"))
  monkeypatch.setattr(allocation, "_may_have_accelerators", lambda: False)
  monkeypatch.setattr(allocation, "_wish_for_huge_pages", lambda: None)
  monkeypatch.setattr(allocation, "_run_programs_in_their_callers", lambda: None)
  return calls


def _run(program: str) -> str:
  """What a program of its own process prints."""
  if not allocation.platform.libc_ver()[0] == "glibc" or allocation._may_have_accelerators():
    pytest.skip("nothing is changed here")
  environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
  return subprocess.run(
    [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
  ).stdout


def test_freed_memory_is_used_again():
  pages, given_back, huge = map(int, _run(_BLOCKS).split())
  assert pages < 2 * 2**28 / os.sysconf("SC_PAGE_SIZE")
  assert given_back == 0
  switch = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
  if switch.exists() and "[never]" not in switch.read_text():
    assert huge > 0


def test_programs_run_where_they_are_called():
  assert _run(_CALL).strip() == "True"


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_ARENA_MAX"])
def test_what_was_decided_stays(mallopt, name):
  assert not allocation.adapt({name: "1"}) and not mallopt
  assert allocation.adapt({}) and len(mallopt) == 3


def test_other_libraries_are_left_alone(mallopt, monkeypatch):
  monkeypatch.setattr(allocation.platform, "libc_ver", lambda: ("", ""))
  assert not allocation.adapt({}) and not mallopt


@pytest.mark.parametrize("package", ["jax_plugins", "libtpu"])
def test_accelerators_are_known_by_their_plugins(package, monkeypatch):
  monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: ["cuda"])
  assert allocation._may_have_accelerators()
  monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
  monkeypatch.setattr(allocation.importlib.util, "find_spec", lambda name: name == package)
  assert allocation._may_have_accelerators()
