"""What the images of files are called, so that predictions and truths find each other."""

import os
import pathlib
from collections.abc import Iterable, Sequence

from hseg_jax import images
from hseg_jax.errors import UserError

# What a file's name may end in without that being part of its image's name.
ENDINGS = (*images.EXTENSIONS, ".npz", ".npy", ".mat", ".json")


def name(files: Iterable[str | os.PathLike]) -> dict[str, str]:
  """The name of each file: its own, without folders and ending.

  Where two files would share one, all keep their folders: `a/1.png` is called "a/1".
  """
  paths = {str(file): pathlib.PurePath(file) for file in files}
  long = {
    file: (path.with_suffix("") if path.suffix.lower() in ENDINGS else path).as_posix()
    for file, path in paths.items()
  }
  short = {file: full.rsplit("/", 1)[-1] for file, full in long.items()}
  return short if len(set(short.values())) == len(set(long.values())) else long


def table(folder: str | os.PathLike, endings: Sequence[str]) -> dict[str, str]:
  """The files of a folder, all of one ending among those given, by the names of their images.

  Raises:
    UserError: there is no such folder, it holds no such files, files of several endings, or two of
      one name.
  """
  files = listing(folder, endings)
  if not files:
    raise UserError(f"The folder {folder} holds no file that ends in {', '.join(endings)}.")
  kinds = sorted({file.suffix.lower() for file in files})
  if len(kinds) > 1:
    raise UserError(
      f"The folder {folder} holds several kinds of files ({', '.join(kinds)}); keep one."
    )
  return index(folder, files)


def index(folder: str | os.PathLike, files: Sequence[pathlib.PurePath]) -> dict[str, str]:
  """Paths of files in a folder by the names of their images.

  Raises:
    UserError: two have the same name.
  """
  found = {each: os.path.join(folder, file) for file, each in name(files).items()}
  if len(found) < len(files):
    raise UserError(f"The folder {folder} holds two files of one name; rename one.")
  return found


def listing(folder: str | os.PathLike, endings: Sequence[str]) -> list[pathlib.PurePath]:
  """The files anywhere in a folder that end so, relative to it, sorted; hidden ones are left out.

  Raises:
    UserError: there is no such folder.
  """
  if not os.path.isdir(folder):
    raise UserError(f"There is no folder {folder}; name one that holds predictions or truths.")
  found = []
  for parent, folders, files in os.walk(folder, followlinks=True):
    folders[:] = [each for each in folders if not each.startswith(".")]
    relative = pathlib.PurePath(os.path.relpath(parent, folder))
    found += [
      relative / each
      for each in files
      if each.lower().endswith(tuple(endings)) and not each.startswith(".")
    ]
  return sorted(found)
