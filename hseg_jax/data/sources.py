"""Where examples come from: PartWorld, a class-per-folder image tree, images with masks, or
TensorFlow Datasets."""

import io
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from hseg_jax.data import masks, part_imagenet, partworld
from hseg_jax.data.bad_images import BadImages
from hseg_jax.errors import UserError
from hseg_jax.images import (
  EXTENSIONS,
  Reduction,
  UnreadableImage,
  decode,
  decode_smaller,
  list_folder,
)
from hseg_jax.vocabulary import Vocabulary

Example = dict[str, Any]


@runtime_checkable
class Examples(Protocol):
  """Random access to examples; may raise `UnreadableImage`, which a `Source` around it handles."""

  class_names: Sequence[str]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Example: ...


def load(
  source: str,
  *,
  name: str,
  root: str,
  split: str,
  image_size: int,
  seed: int,
  num_examples: int | None = None,
  max_bad_images: int,
) -> "Source":
  """Opens a data set for random access.

  Args:
    source: "partworld" (drawn on the fly), "folder" (`root/split/class/image`), "masks"
      (`root/images` and `root/masks`, see `masks.MaskExamples`), "part_imagenet"
      (`root/images/split`, `root/annotations/split.json`) or "tfds".
    name: the TFDS name, such as "imagenet2012"; the other sources ignore it.
    root: the folder of the image tree, or TFDS's data_dir ("" for its default).
    split: "train", "validation", ... ; a folder's name for "folder"; TFDS and "masks" also take
      slices.
    image_size: side in pixels at which PartWorld is drawn and PartImageNet cropped; the other
      sources keep their sizes.
    seed: which PartWorld to draw.
    num_examples: take only so many, evenly spaced over the data set; None takes all.
    max_bad_images: how many unreadable images to replace before giving up, in this process and
      its workers.

  Raises:
    UserError: if the source is unknown, or the data is missing, empty or not in a usable format.
  """
  if source == "partworld":
    examples = partworld.PartWorld(split, size=image_size, seed=seed, num_examples=num_examples)
    return Source(examples, max_bad_images=max_bad_images)
  if source == "folder":
    examples = FolderExamples(root, split)
  elif source == "part_imagenet":
    examples = part_imagenet.PartImageNet(root, split, image_size)
  elif source == "masks":
    examples = masks.MaskExamples(root, split)
  elif source == "tfds":
    examples = TfdsExamples(name, root, split)
  else:
    raise UserError(
      f'Unknown data.source "{source}"; choose "partworld", "folder", "masks", "part_imagenet" or '
      '"tfds".'
    )
  return Source(examples, max_bad_images=max_bad_images, num_examples=num_examples)


class Source:
  """Random access to examples, in which a readable image stands in for each unreadable one.

  `source[i]` is a dict of `image` (uint8 `[h, w, 3]` RGB of any size), `label` (int, -1 where
  images have no class) and, where the data set knows them, `object` (bool `[h, w]`, or uint8 with
  the number of a class of objects, 0 = none), `parts` (uint8 `[h, w]`, 0 = none) and `semantic`
  (uint8 `[h, w]`, 255 = ignored). The stand-in is the next readable example, with its own label,
  so it does not depend on history.

  Attributes:
    class_names: names in the order of their labels; empty where images have no class.
    num_classes: how many.
    vocabulary: of objects and parts; None where the data set has none.
    mask_labels: what the labels of `semantic` mean; None where there is no such mask.
  """

  def __init__(self, examples: Examples, *, max_bad_images: int, num_examples: int | None = None):
    """Wraps `examples`; keeps `num_examples` of them, evenly spaced, or all if it is None."""
    total = len(examples)
    self._length = total if num_examples is None else min(num_examples, total)
    if self._length < 1:
      raise UserError(f"The data set has {total} examples, of which {num_examples} were asked for.")
    self._examples = examples
    self._bad_images = BadImages(max_bad_images)
    self.class_names = tuple(examples.class_names)
    self.num_classes = len(self.class_names)
    self.vocabulary: Vocabulary | None = getattr(examples, "vocabulary", None)
    self.mask_labels: masks.Labels | None = getattr(examples, "mask_labels", None)

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> Example:
    return self._readable(index, lambda position: self._examples[position])

  def smaller(self, index: int, reduction: Reduction) -> Example:
    """See `sources.smaller`."""
    return self._readable(index, lambda position: smaller(self._examples, position, reduction))

  def file(self, index: int) -> str | io.BytesIO | None:
    """The path or content of an image's file, readable or not; None if the data set has no such."""
    return self._examples.file(self._position(index)) if hasattr(self._examples, "file") else None

  def _position(self, index: int) -> int:
    return index * len(self._examples) // self._length

  def _readable(self, index: int, read: Callable[[int], Example]) -> Example:
    if not 0 <= index < self._length:
      raise IndexError(f"Example {index} of a data set of {self._length}.")
    for offset in range(self._length):
      position = self._position((index + offset) % self._length)
      try:
        return read(position)
      except UnreadableImage as error:
        reason = str(error)
      self._bad_images.report(position, reason)
    raise UserError(f"None of the {self._length} images of the data set can be read.")


def smaller(examples: Examples, index: int, reduction: Reduction) -> Example:
  """An example with, where the data set knows how, a JPEG that its decoder has made smaller.

  Args:
    examples: the data set.
    index: of the example.
    reduction: as `images.decode_smaller` takes it.

  Returns:
    `examples[index]`, or the same with such an `image`, and its height and width in the file as
    `size`.
  """
  if hasattr(examples, "smaller"):
    return examples.smaller(index, reduction)
  return examples[index]


class Subset:
  """The examples of a data set at certain positions, in their order.

  Attributes:
    class_names: the data set's.
  """

  def __init__(self, examples: Examples, positions: Sequence[int] | Int[np.ndarray, " n"]):
    """Keeps the examples at `positions`."""
    self._examples, self._positions = examples, np.asarray(positions)
    self.class_names = examples.class_names

  def __len__(self) -> int:
    return len(self._positions)

  def __getitem__(self, index: int) -> Example:
    return self._examples[int(self._positions[index])]


class FolderExamples:
  """A class-per-folder image tree, `root/split/class/image`; classes and files in sorted order."""

  def __init__(self, root: str, split: str):
    """Lists the images.

    Raises:
      UserError: if a folder is not given, missing or holds no classes, or a class no images.
    """
    if not root:
      raise UserError(f"data.root is not given; set it to a folder with {split}/CLASS/IMAGE.")
    self._folder = pathlib.Path(root, split)
    layout = f"expected {self._folder}/CLASS/IMAGE ({', '.join(EXTENSIONS)})"
    if not self._folder.is_dir():
      raise UserError(f"The data folder {self._folder} does not exist; {layout}.")
    visible = (entry for entry in os.scandir(self._folder) if not entry.name.startswith("."))
    folders = sorted(entry.name for entry in visible if entry.is_dir())
    # Bytes of another encoding, as old archives leave them, can be opened but not written as text.
    self.class_names = tuple(
      os.fsencode(name).decode(errors="backslashreplace") for name in folders
    )
    if not folders:
      raise UserError(f"The data folder {self._folder} holds no class folders; {layout}.")
    self._files: list[str] = []
    self._labels: list[int] = []
    for label, name in enumerate(folders):
      files = list_folder(self._folder / name)
      if not files:
        raise UserError(f"The class folder {self._folder / name} holds no images; {layout}.")
      self._files += [os.path.join(name, file) for file in files]
      self._labels += [label] * len(files)

  def __len__(self) -> int:
    return len(self._files)

  def __getitem__(self, index: int) -> Example:
    path = self.file(index)
    return {"image": decode(path, path), "label": self._labels[index]}

  def file(self, index: int) -> str:
    """See `Source.file`."""
    return f"{self._folder}/{self._files[index]}"

  def smaller(self, index: int, reduction: Reduction) -> Example:
    """See `sources.smaller`."""
    path = self.file(index)
    image, size = decode_smaller(path, path, reduction)
    return {"image": image, "size": size, "label": self._labels[index]}


class TfdsExamples:
  """A data set prepared by TensorFlow Datasets as array_record, the format with random access."""

  def __init__(self, name: str, data_dir: str, split: str):
    """Opens it.

    Raises:
      UserError: if the data set or split is unknown, has no image and label, or is not prepared
        as array_record.
    """
    import tensorflow_datasets as tfds  # Here: it takes a second that the other sources need not.

    try:
      builder = tfds.builder(name, data_dir=data_dir or None)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
      raise UserError(f'TFDS knows no data set "{name}"; check data.name.') from error
    if builder.is_prepared():
      # Only a builder made from the folder sees the formats that were added by conversion.
      builder = tfds.builder_from_directory(builder.data_dir)
    features = builder.info.features
    for key, kind in (("image", tfds.features.Image), ("label", tfds.features.ClassLabel)):
      if key not in features or not isinstance(features[key], kind):
        raise UserError(
          f'The TFDS data set "{name}" has no "{key}" of type {kind.__name__}; choose a data set '
          f"for image classification."
        )
    self.class_names = tuple(features["label"].names)
    self._name = f"{name}/{split}"
    try:
      self._records = builder.as_data_source(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}
      )
    except NotImplementedError as error:
      raise UserError(
        f'The TFDS data set "{name}" is not prepared as array_record in {builder.data_dir}; run '
        f"python launch/prepare_tfds.py --name={name}"
        f"{f' --data_dir={data_dir}' if data_dir else ''}"
        f"{' --convert' if builder.is_prepared() else ''}"
      ) from error
    except ValueError as error:
      raise UserError(f'The TFDS data set "{name}" has no split "{split}": {error}') from error

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> Example:
    record = self._records[index]
    image = decode(io.BytesIO(record["image"]), self._name_of(index))
    return {"image": image, "label": int(record["label"])}

  def smaller(self, index: int, reduction: Reduction) -> Example:
    """See `sources.smaller`."""
    record = self._records[index]
    image, size = decode_smaller(io.BytesIO(record["image"]), self._name_of(index), reduction)
    return {"image": image, "size": size, "label": int(record["label"])}

  def file(self, index: int) -> io.BytesIO:
    """See `Source.file`."""
    return io.BytesIO(self._records[index]["image"])

  def _name_of(self, index: int) -> str:
    return f"{index} of {self._name}"


class Padded:
  """A source lengthened to a multiple of the batch size; repeats its last example as invalid."""

  def __init__(self, source: Examples, *, multiple: int):
    self._source = source
    self._length = -(-len(source) // multiple) * multiple

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> Example:
    last = len(self._source) - 1
    return {**self._source[min(index, last)], "valid": np.bool_(index <= last)}
