"""How this process gets its memory."""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Mapping

# Parameters of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = -1  # as a threshold: no number is too large


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
  """Keeps memory that is freed for what is allocated next, where only CPUs can compute.

  XLA allocates the temporaries of a program anew in every call, hundreds of megabytes for a
  training step; glibc gets such blocks from the system and gives them back, and the system clears
  every page each time. That is up to an eighth of a step of CAST-S on two cores. Memory is then one
  heap, as large as it ever was, which threads share; so nothing changes where an accelerator can be
  used and the host's many threads allocate, or where the environment has settings of glibc's own
  (`GLIBC_TUNABLES`, `MALLOC_*`).

  Call it before threads start.

  Returns:
    Whether it is so now.
  """
  if platform.libc_ver()[0] != "glibc" or _may_have_accelerators():
    return False
  if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in environment):
    return False
  mallopt = ctypes.CDLL(None).mallopt
  settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER))
  return all([mallopt(parameter, value) == 1 for parameter, value in settings])


def _may_have_accelerators() -> bool:
  """Whether jax has a plugin for any, which it finds in several ways; known without starting it."""
  if importlib.metadata.entry_points(group="jax_plugins"):
    return True
  return any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
