"""What is measured as JSON, one line each."""

import json
import os
import pathlib
import platform
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from hseg_jax import files
from hseg_jax.bench.timing import Timing


def record(
  what: str, model: str, *, size: int, batch: int, dtype: str, timing: Timing, host: bool = False
) -> dict[str, Any]:
  """The fields that every measurement has.

  Args:
    what: the kind of measurement.
    model: what was measured.
    size: side of the images in pixels.
    batch: images in a call.
    dtype: of the computation.
    timing: of a call.
    host: whether it ran on the host's processor, not on the default device.
  """
  return {
    "what": what,
    "model": model,
    "size": size,
    "batch": batch,
    "dtype": dtype,
    "device": platform.machine() if host else jax.devices()[0].device_kind,
    "images_per_s": batch / timing.median_s,
    **timing._asdict(),
  }


def report(
  records: Iterable[Mapping[str, Any]], out: str | os.PathLike | None
) -> list[dict[str, Any]]:
  """Prints a JSON line for each record as it comes; also writes them to a file if one is given.

  Returns:
    The records.
  """
  found = []
  for each in records:
    print(json.dumps(each), flush=True)
    found.append(dict(each))
  if out is not None:
    with files.whole(pathlib.Path(out)) as path:
      path.write_text("".join(f"{json.dumps(each)}\n" for each in found))
  return found
