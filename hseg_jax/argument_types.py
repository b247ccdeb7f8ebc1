"""What words on a command line stand for, shared by the commands: `type=` of argparse."""

import argparse


def count(text: str) -> int:
  """A whole number from 1 on."""
  number = int(text) if text.isdecimal() else 0
  if number < 1:
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
  return number


def counts(text: str) -> tuple[int, ...]:
  """Such numbers with commas between."""
  return tuple(map(count, text.split(",")))
