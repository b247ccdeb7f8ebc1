"""The same function on many things, in several processes that end with this one."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any

from hseg_jax.errors import UserError

# Matrix libraries start a thread for every core in every process, unless they are told not to.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_function: Callable[[Any], Any]  # of a process that was started here


def count_cores() -> int:
  """How many cores this process may use."""
  available = getattr(os, "sched_getaffinity", None)  # not on every system
  return len(available(0)) if available else os.cpu_count() or 1


def run(
  function: Callable[[Any], Any],
  items: Sequence[Any],
  workers: int,
  advance: Callable[[], None] = lambda: None,
) -> list[Any]:
  """What a function makes of each item, in their order.

  The function is sent to each process once, with all it holds. The first error ends everything,
  and so does the end of this process, however it comes.

  Args:
    function: can be pickled; with one worker it runs here.
    items: can be pickled.
    workers: processes.
    advance: called here after each item.

  Raises:
    UserError: as the function, or a process died.
  """
  workers = min(workers, len(items))
  if workers <= 1:
    found = []
    for item in items:
      found.append(function(item))
      advance()
    return found
  context = multiprocessing.get_context("spawn")
  theirs, ours = context.Pipe(duplex=False)
  pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start, (function, theirs))
  try:
    with _one_thread_each():  # all processes start with the first item
      futures = [pool.submit(_call, item) for item in items]
    for future in concurrent.futures.as_completed(futures):
      future.result()
      advance()
    return [future.result() for future in futures]
  except BrokenProcessPool as error:
    raise UserError(
      "A process of the computation died, perhaps for want of memory; ask for fewer workers."
    ) from error
  except BaseException:
    ours.close()  # ends them at once, for an item may take minutes
    raise
  finally:
    pool.shutdown(cancel_futures=True)
    ours.close()
    theirs.close()


def _start(function: Callable[[Any], Any], parent: Connection) -> None:
  """Prepares a process, which ends as soon as nobody holds the other end of the pipe."""
  global _function
  _function = function
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all, but one is to answer
  threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Connection) -> None:
  with contextlib.suppress(EOFError, OSError):
    parent.recv()
  os._exit(1)


def _call(item: Any) -> Any:
  return _function(item)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
  before = {name: os.environ.get(name) for name in _THREADS}
  os.environ.update(dict.fromkeys(_THREADS, "1"))
  try:
    yield
  finally:
    for name, value in before.items():
      if value is None:
        del os.environ[name]
      else:
        os.environ[name] = value
