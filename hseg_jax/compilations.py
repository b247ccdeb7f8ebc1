"""Where compiled programs are kept, so that the same command compiles nothing twice."""

import hashlib
import os
import pathlib
import platform
from collections.abc import MutableMapping

from hseg_jax import files
from hseg_jax.errors import UserError

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def keep(environment: MutableMapping[str, str] = os.environ) -> None:
  """Tells jax, which must not be imported yet, to keep them in the user's folder of caches.

  That is `hseg_jax/compilations/PROCESSOR` in `$XDG_CACHE_HOME` or `~/.cache`, for programs of one
  processor may not run on another that shares the folder. Who has set jax's own variable
  `JAX_COMPILATION_CACHE_DIR`, also to nothing, has decided already, and where the folder cannot be
  written nothing is kept. `JAX_ENABLE_COMPILATION_CACHE=0` keeps nothing either.
  """
  if VARIABLE in environment:
    return
  try:
    home = environment.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(home, "hseg_jax", "compilations", _processor())
    files.make_folder(folder)
  except (UserError, RuntimeError):  # no home, or not one's own
    return
  environment[VARIABLE] = str(folder)


def _processor() -> str:
  """The kind of this machine's processor, and a digest of what it can do."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:  # not Linux
    lines = [f"flags: {platform.processor()}"]
  abilities = sorted({line for line in lines if line.startswith(("flags", "Features"))})
  digest = hashlib.sha256("\n".join(abilities).encode()).hexdigest()
  return f"{platform.machine()}-{digest[:8]}"
