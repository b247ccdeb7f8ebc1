"""Tests of clocks and of taking turns."""

import itertools
import time

import pytest

from hseg_jax.bench import timing
from hseg_jax.bench.timing import Clock, Timing, in_turn, wait_for_threads


def clock(*seconds):
  made = Clock()
  made._times = [(s, 2 * s) for s in seconds]
  return made


def test_medians():
  assert clock(1.0, 5.0, 2.0).timing == Timing(median_s=2.0, cpu_s=4.0, repeats=3)


def test_ratios_are_those_of_pairs():
  # The machine was ten times slower in the last round; the ratio of medians would be 4 / 2.
  assert clock(1.0, 2.0, 10.0).times_as_fast(clock(3.0, 4.0, 30.0)) == 3.0
  assert clock(3.0, 4.0, 30.0).times_as_fast(clock(1.0, 2.0, 10.0)) == pytest.approx(1 / 3)


def test_a_call_is_timed_whole():
  made = Clock()
  assert made.time(lambda seconds: time.sleep(seconds) or "done", 0.05) == "done"
  assert 0.05 <= made.timing.median_s < 1 and made.timing.cpu_s < 0.05


def test_turns_after_two_rounds(monkeypatch):
  calls = []
  monkeypatch.setattr(timing, "wait_for_threads", lambda: calls.append("wait"))
  functions = {name: lambda name=name: calls.append(name) for name in "ab"}
  clocks = in_turn(functions, 2)
  assert calls == ["a", "b"] * 2 + ["wait", "a", "wait", "b"] * 2
  assert [each.timing.repeats for each in clocks.values()] == [2, 2]


def test_busy_threads_are_waited_for(monkeypatch):
  cpu = iter([0.0, 0.02, 0.02, 0.04, 0.04, 0.04])  # before and after each glance
  monkeypatch.setattr(time, "process_time", lambda: next(cpu))
  wait_for_threads(longest=60.0)
  assert next(cpu, None) is None  # busy, busy, idle


def test_threads_that_never_rest_are_not_waited_for(monkeypatch):
  cpu = itertools.count()
  monkeypatch.setattr(time, "process_time", lambda: next(cpu))
  wait_for_threads(longest=0.1)
  assert next(cpu) >= 2
