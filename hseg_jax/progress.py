"""How far a command has come: one line, rewritten on a terminal, else written now and then."""

import sys
import time


class Progress:
  """Counts what is done; use it in a `with` block, which ends with a line of what was done."""

  def __init__(self, total: int, what: str):
    """Starts the clock.

    Args:
      total: how many there will be.
      what: things, such as "images".
    """
    self._total, self._what, self._done = total, what, 0
    self._terminal = sys.stdout.isatty()
    self._pause = 0.1 if self._terminal else 10.0  # seconds between lines
    self._start = self._written = time.monotonic()

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *error) -> None:
    self.clear()
    if self._done:
      seconds = time.monotonic() - self._start
      rate = self._done / max(seconds, 1e-9)
      print(f"{self._done} {self._what} in {seconds:.1f} s  {rate:.1f} {self._what}/s", flush=True)

  def advance(self) -> None:
    """Counts one more."""
    self._done += 1
    now = time.monotonic()
    if now - self._written < self._pause:
      return
    self._written = now
    rate = self._done / (now - self._start)
    minutes, seconds = divmod(round((self._total - self._done) / rate), 60)
    line = f"{self._done}/{self._total} {self._what}  {rate:.1f} {self._what}/s"
    line += f"  {minutes} min {seconds} s left"
    self.clear()
    print(line, end="" if self._terminal else "\n", flush=True)

  def clear(self) -> None:
    """Wipes the line off a terminal, so that another can be written there."""
    if self._terminal:
      print("\r\033[K", end="", flush=True)
