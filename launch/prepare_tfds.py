"""Prepares a TensorFlow Datasets data set as array_record, the format with random access.

  python launch/prepare_tfds.py --name=imagenet2012 --data_dir=/data/tfds
  python launch/prepare_tfds.py --name=imagenet2012 --data_dir=/data/tfds --convert

The first downloads and prepares; data sets that must be fetched by hand, as ImageNet, say where to
put their archives. The second adds array_record files beside a copy already prepared as tfrecord
and leaves that copy as it is; interrupted, it goes on where it stopped.
"""

import os
import sys

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import app, flags, logging
from tensorflow_datasets.core import dataset_info, file_adapters

from hseg_jax.errors import UserError

_NAME = flags.DEFINE_string("name", None, "TFDS name, with a config or version if need be.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of all data sets; default TFDS's own.")
_CONVERT = flags.DEFINE_bool("convert", False, "Add array_record to a copy prepared as tfrecord.")

ARRAY_RECORD = file_adapters.FileFormat.ARRAY_RECORD


def prepare(name: str, data_dir: str | None) -> str:
  """Downloads and prepares a data set as array_record; returns its folder.

  Raises:
    UserError: if it is unknown, already there as tfrecord, or its archives must be fetched by hand.
  """
  existing = _builder(name, data_dir)
  if existing.is_prepared():
    if not _has_array_record(existing):
      raise UserError(f"{existing.data_dir} is prepared in another format; add --convert.")
    return str(existing.data_dir)
  builder = tfds.builder(name, data_dir=data_dir, file_format=ARRAY_RECORD)
  try:
    builder.download_and_prepare()
  except AssertionError as error:  # TFDS's way to ask for archives.
    raise UserError(str(error)) from error
  return str(builder.data_dir)


def convert(name: str, data_dir: str | None) -> str:
  """Adds array_record files to a prepared data set; returns its folder.

  Raises:
    UserError: if it is unknown or not prepared.
  """
  builder = _builder(name, data_dir)
  if not builder.is_prepared():
    raise UserError(f"{builder.data_dir} is not prepared; run without --convert.")
  if _has_array_record(builder):
    return str(builder.data_dir)
  for split in builder.info.splits.values():
    target = split.filename_template.replace(filetype_suffix=ARRAY_RECORD.file_suffix)
    for shard in range(split.num_shards):
      numbers = {"shard_index": shard, "num_shards": split.num_shards}
      _convert_shard(
        split.filename_template.sharded_filepath(**numbers), target.sharded_filepath(**numbers)
      )
  # Only now, so that a half converted data set is not taken for a whole one.
  info = dataset_info.read_proto_from_builder_dir(builder.data_dir)
  info.alternative_file_formats.append(ARRAY_RECORD.value)
  dataset_info.write_dataset_info_proto(info, dataset_info_dir=builder.data_path)
  return str(builder.data_dir)


def _builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
  try:
    return tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError as error:
    raise UserError(f'TFDS knows no data set "{name}"; check --name.') from error


def _has_array_record(builder: tfds.core.DatasetBuilder) -> bool:
  info = dataset_info.read_proto_from_builder_dir(builder.data_dir)
  return dataset_info.supports_file_format(info, ARRAY_RECORD)


def _convert_shard(source: os.PathLike, target: os.PathLike) -> None:
  """Copies the serialised examples; under another name until the last is written."""
  if os.path.exists(target):
    return
  logging.info("Writing %s", target)
  partial = target.with_name(f"incomplete.{target.name}")
  records = tf.data.TFRecordDataset(os.fspath(source)).as_numpy_iterator()
  file_adapters.ArrayRecordFileAdapter.write_examples(partial, enumerate(records))
  os.replace(partial, target)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError("Too many command-line arguments.")
  tf.config.set_visible_devices([], "GPU")  # Nothing here computes.
  try:
    folder = (convert if _CONVERT.value else prepare)(_NAME.value, _DATA_DIR.value)
  except UserError as error:
    print(error, file=sys.stderr)
    return 2
  print(f"Ready as array_record: {folder}")
  return 0


if __name__ == "__main__":
  flags.mark_flag_as_required("name")
  app.run(main)
