"""Which images a command is given, what each is called, and where its superpixels are."""

import glob
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hseg_jax import images
from hseg_jax.errors import UserError


class Input(NamedTuple):
  """An image of a command.

  Attributes:
    path: of the file.
    name: of its results, without ending; may have folders in it.
    labels: file with its superpixels; None = computed.
  """

  path: pathlib.Path
  name: str
  labels: pathlib.Path | None = None


def find(arguments: Iterable[str | os.PathLike]) -> list[Input]:
  """Lists the images that files, folders and patterns stand for, each once, in that order.

  A file is called by its name without the ending, an image anywhere in a folder by its path from
  there. Of several that would share a name each keeps its ending (`photo.jpg`), and those that
  still do are numbered (`photo.jpg-2`).

  Args:
    arguments: files of any ending, folders, and patterns such as "photos/*.jpg" or "**/*.png".

  Raises:
    UserError: a file is missing, a folder holds no images, or a pattern fits none.
  """
  files: dict[pathlib.Path, tuple[pathlib.Path, pathlib.PurePath]] = {}  # by where each really is
  for argument in map(str, arguments):
    paths = [argument]
    if not os.path.exists(argument):
      paths = sorted(glob.glob(argument, recursive=True))
    if not paths:
      raise UserError(f"There is no image, folder or pattern of files {argument}.")
    listed = [item for path in paths for item in _list(pathlib.Path(path))]
    if not listed:
      endings = ", ".join(images.EXTENSIONS)
      raise UserError(f"The folder {argument} holds no images ({endings}).")
    for path, name in listed:
      files.setdefault(path.resolve(), (path, name))
  found = dict(files.values())  # file -> what it is called, with its ending
  names = _distinct(list(found.values()))
  return [Input(path, name) for path, name in zip(found, names, strict=True)]


def with_labels(inputs: Sequence[Input], folder: str | os.PathLike) -> list[Input]:
  """Adds each image's label map, `NAME.npy`, `NAME.npz` or `NAME.png` in a folder.

  Raises:
    UserError: an image has none.
  """
  found = []
  for each in inputs:
    choices = [pathlib.Path(folder, each.name + ending) for ending in images.LABEL_EXTENSIONS]
    existing = [path for path in choices if path.is_file()]
    if not existing:
      raise UserError(
        f"{folder} holds no superpixels of {each.path}: neither of "
        f"{', '.join(path.name for path in choices)} is there."
      )
    found.append(each._replace(labels=existing[0]))
  return found


def _list(path: pathlib.Path) -> list[tuple[pathlib.Path, pathlib.PurePath]]:
  """The images at a path, each with what it is called there."""
  if path.is_dir():
    return [(path / name, pathlib.PurePath(name)) for name in images.list_folder(path)]
  return [(path, pathlib.PurePath(path.name))]


def _distinct(names: Sequence[pathlib.PurePath]) -> list[str]:
  """Names without endings where they are unique, with them and numbered where they are not."""
  short = [name.with_suffix("").as_posix() for name in names]
  # Some file systems do not tell case apart.
  counts: dict[str, int] = {}
  for name in short:
    counts[name.casefold()] = counts.get(name.casefold(), 0) + 1
  taken = {name for name, count in counts.items() if count == 1}
  distinct = []
  for name, brief in zip(names, short, strict=True):
    if counts[brief.casefold()] > 1:
      full, number = name.as_posix(), 1
      brief = full
      while brief.casefold() in taken:
        number += 1
        brief = f"{full}-{number}"
      taken.add(brief.casefold())
    distinct.append(brief)
  return distinct
