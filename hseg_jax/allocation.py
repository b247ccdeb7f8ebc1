"""How this process gets its memory."""

import ctypes
import importlib.metadata
import importlib.util
import mmap
import os
import platform
from collections.abc import Mapping

# Parameters of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = -1  # as a threshold: no number is too large


def adapt(environment: Mapping[str, str] = os.environ) -> bool:
  """Takes memory in huge pages and keeps what is freed, where only CPUs can compute.

  XLA allocates the temporaries of a program anew in every call, hundreds of megabytes for a
  training step; glibc gets such blocks from the system and gives them back, and the system clears
  every page each time. Kept, they are cleared once; in pages of 2 MB instead of 4 KB that is quick.
  Memory is then two heaps, as large as they ever were, which threads share (one would be enough for
  programs, but the compiler's threads would wait for each other); so nothing changes where an
  accelerator can be used and the host's many threads allocate, or where the environment has
  settings of glibc's own (`GLIBC_TUNABLES`, `MALLOC_*`).

  Only the first heap, the main thread's, keeps whatever it gets: glibc gives back what does not fit
  into 64 MB of the second. So programs on one device are run by the thread that calls them, not by
  whichever of jax's takes them up; where that was one of the second heap, a training step of CAST-S
  took half a second more of processor time. Programs on several devices are left to jax's threads.

  Imports jax. Call it before threads start.

  Returns:
    Whether freed memory is kept now; huge pages are a wish that the system may not grant.
  """
  if platform.libc_ver()[0] != "glibc" or _may_have_accelerators():
    return False
  if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in environment):
    return False
  mallopt = ctypes.CDLL(None).mallopt
  settings = ((_ARENA_MAX, 2), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER))
  kept = all([mallopt(parameter, value) == 1 for parameter, value in settings])
  if kept:
    _wish_for_huge_pages()
    _run_programs_in_their_callers()
  return kept


def _run_programs_in_their_callers() -> None:
  import jax  # takes a second, and not before the settings

  jax.config.update("jax_cpu_enable_async_dispatch", False)


def _wish_for_huge_pages() -> None:
  """Makes the heap half as large as the machine's memory, none of it used, and advises the system
  to fill it with huge pages."""
  libc = ctypes.CDLL(None)
  libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
  libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
  libc.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
  page = mmap.PAGESIZE
  size = os.sysconf("SC_PHYS_PAGES") // 2 * page
  if block := libc.malloc(size):
    start = -(-block // page) * page
    libc.madvise(start, size - page, mmap.MADV_HUGEPAGE)
    libc.free(block)  # it stays in the heap, as nothing is given back


def _may_have_accelerators() -> bool:
  """Whether jax has a plugin for any, which it finds in several ways; known without starting it."""
  if importlib.metadata.entry_points(group="jax_plugins"):
    return True
  return any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
