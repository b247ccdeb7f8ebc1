"""Results on disk: folders that can be written, and files that are there whole or not at all."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from hseg_jax.errors import UserError


def make_folder(path: str | os.PathLike) -> None:
  """Makes a folder for results where there is none.

  Raises:
    UserError: it cannot be made or written to.
  """
  folder = pathlib.Path(path)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise UserError(f"The folder {path} cannot be written: {error.strerror}.") from error


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a path to write to, which gets the name `path` once the block has ended well.

  Raises:
    UserError: the file cannot be written.
  """
  partial = path.with_name(f"{path.name}.partial")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield partial
    partial.replace(path)
  except BaseException as error:
    with contextlib.suppress(OSError):
      partial.unlink(missing_ok=True)
    if isinstance(error, OSError):
      raise UserError(f"The file {path} cannot be written: {error.strerror}.") from error
    raise
