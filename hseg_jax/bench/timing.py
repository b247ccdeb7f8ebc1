"""How long things take, and how much longer than each other."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

_GLANCE = 0.02  # seconds
_ROUNDS_BEFORE = 2


class Timing(NamedTuple):
  """How long something takes.

  Attributes:
    median_s: wall-clock seconds, the median of the repeats.
    cpu_s: seconds of this process on all cores, likewise; other processes disturb it less.
    repeats: how many there were.
  """

  median_s: float
  cpu_s: float
  repeats: int


class Clock:
  """Collects times of one thing, so that those of several can be taken in turn."""

  def __init__(self):
    self._times: list[tuple[float, float]] = []

  def time(self, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function, waits for its arrays and returns them."""
    start = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(function(*arguments))
    self._times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return result

  @property
  def timing(self) -> Timing:
    """The medians of all calls so far."""
    return Timing(*np.median(self._times, axis=0).tolist(), len(self._times))

  def times_as_fast(self, other: "Clock") -> float:
    """How many times as fast as another this is: the median over pairs of calls, i-th with i-th.

    What slows a machine down for a while slows both calls of a pair, and leaves their ratio alone.
    """
    pairs = zip(self._times, other._times, strict=True)
    return float(np.median([theirs[0] / ours[0] for ours, theirs in pairs]))


def in_turn(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Clock]:
  """Times each function `repeats` times, one after the other, round after round.

  Two rounds before are not timed: they fill caches, start threads, and let memory grow to what all
  of them together take. Before each call, threads of the one before are waited for: those of
  OpenMP, as of PyTorch, look out for more work for some 10 ms, on a core of whoever comes next.
  """
  clocks = {name: Clock() for name in functions}
  for function in [*functions.values()] * _ROUNDS_BEFORE:
    jax.block_until_ready(function())
  for _ in range(repeats):
    for name, function in functions.items():
      wait_for_threads()
      clocks[name].time(function)
  return clocks


def wait_for_threads(longest: float = 2.0) -> None:
  """Returns when all threads of this process take less than a tenth of a core, or after `longest`
  seconds."""
  end = time.perf_counter() + longest
  while time.perf_counter() < end:
    worked = time.process_time()
    time.sleep(_GLANCE)
    if time.process_time() - worked < _GLANCE / 10:
      return
