"""The arguments of `hseg bench`, which differ by what is measured."""

import argparse
from collections.abc import Sequence
from typing import Any

from hseg_jax.argument_types import counts


def add(parser: argparse.ArgumentParser) -> None:
  """Adds a command for each thing to measure."""
  commands = parser.add_subparsers(required=True, metavar="WHAT")
  for name, fill, measure, help in (
    ("infer", _add_infer, _measure_models, "Inference of models, in turn on the same batch."),
    ("train", _add_train, _measure_models, "Training steps of models, in turn on the same batch."),
    (
      "superpixels",
      _add_superpixels,
      _measure_superpixels,
      "Superpixels against people's borders.",
    ),
    ("input", _add_input, _measure_input, "A config's input pipeline, next to decoding alone."),
    ("scale", _add_scale, _measure_scale, "A model as images, batches, superpixels, devices grow."),
  ):
    sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
    sub.set_defaults(measure=measure, what=name)
    fill(sub)
    sub.add_argument("--out", metavar="FILE", help="also gets the JSON lines")
    sub.add_argument("--force", action="store_true", help="overwrite")


def _add_infer(sub: argparse.ArgumentParser) -> None:
  sub.add_argument(
    "models",
    nargs="*",
    default=["cast_small", "vit_conv_small"],
    metavar="MODEL",
    help="default cast_small vit_conv_small",
  )
  sub.add_argument("--inputs", metavar="FILE.npz", help="image, and maybe segments and label")
  sub.add_argument("--size", type=int, metavar="N", help="side of images to draw (default 224)")
  sub.add_argument("--batch", type=int, metavar="N", help="how many to draw (default 8)")
  sub.add_argument(
    "--num-segments", type=int, default=196, metavar="N", help="superpixels and room for them"
  )
  sub.add_argument(
    "--peer",
    dest="peers",
    action="append",
    default=[],
    metavar="timm:NAME",
    help="also this model of timm, in PyTorch; may be given again",
  )
  _add_program(sub, "given")


def _add_train(sub: argparse.ArgumentParser) -> None:
  _add_infer(sub)
  _add_objective(sub)


def _add_scale(sub: argparse.ArgumentParser) -> None:
  sub.add_argument("--model", default="cast_small", metavar="NAME", help="default cast_small")
  sub.add_argument("--what", choices=("infer", "train"), default="infer", help="default infer")
  for name, default, what in (
    ("sizes", (224, 320, 448), "sides of the images"),
    ("batches", (8, 16, 32), "images on each device"),
    ("num-segments", (196, 400, 784), "superpixels of an image"),
  ):
    shown = ",".join(map(str, default))
    sub.add_argument(
      f"--{name}",
      type=counts,
      default=default,
      metavar="A,B,...",
      help=f"{what} (default {shown})",
    )
  what = "how many (default 1 and its doubles, as many as there are)"
  sub.add_argument("--devices", type=counts, metavar="A,B,...", help=what)
  _add_program(sub, "seeds")
  _add_objective(sub)


def _add_program(sub: argparse.ArgumentParser, superpixels: str) -> None:
  """Adds what all measurements of models share."""
  sub.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
  sub.add_argument(
    "--superpixels",
    choices=("seeds", "grid", "device"),
    default=superpixels,
    help="made beforehand, or (device) in what is measured; default those of the inputs, or seeds",
  )
  sub.add_argument(
    "--set", action="append", default=[], metavar="FIELD=VALUE", help="of the models, as remat=True"
  )
  sub.add_argument("--repeats", type=int, default=5, metavar="N", help="timed calls (default 5)")


def _add_objective(sub: argparse.ArgumentParser) -> None:
  choices = ("supervised", "contrastive")
  sub.add_argument("--objective", choices=choices, default="supervised", help="of training")


def _add_superpixels(sub: argparse.ArgumentParser) -> None:
  sub.add_argument(
    "--data", required=True, metavar="FOLDER", help="with images/SPLIT and groundTruth or masks"
  )
  sub.add_argument("--split", default="val", metavar="NAME", help='subfolder of both, or ""')
  sub.add_argument("--size", type=int, default=224, metavar="N", help="side of the images")
  sub.add_argument(
    "--num-segments", type=int, default=196, metavar="N", help="the most of an image"
  )
  sub.add_argument("--num-images", type=int, default=100, metavar="N", help="the first by name")
  sub.add_argument(
    "--batch-size", type=int, default=8, metavar="N", help="of jitted methods, beside 1"
  )


def _add_input(sub: argparse.ArgumentParser) -> None:
  sub.set_defaults(takes_config=True)
  sub.add_argument(
    "--config",
    required=True,
    metavar="FILE.py[:ARG]",
    help="any field may be overridden by --config.FIELD=VALUE",
  )
  what = "timed at once, rounded up to a multiple of the workers (default 10)"
  sub.add_argument("--num-batches", type=int, default=10, metavar="N", help=what)
  sub.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds (default 5)")


def _measure_models(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax.bench import models

  del overrides
  models.measure(
    _task(arguments, arguments.num_segments),
    arguments.models,
    size=arguments.size,
    batch=arguments.batch,
    inputs=arguments.inputs,
    peers=arguments.peers,
    repeats=arguments.repeats,
    out=arguments.out,
  )


def _measure_scale(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax.bench import scale

  del overrides
  scale.measure(
    _task(arguments, arguments.num_segments[0]),
    arguments.model,
    sizes=arguments.sizes,
    batches=arguments.batches,
    num_segments=arguments.num_segments,
    devices=arguments.devices,
    repeats=arguments.repeats,
    out=arguments.out,
  )


def _task(arguments: argparse.Namespace, num_segments: int) -> Any:
  from hseg_jax.bench.programs import Task
  from hseg_jax.import_torch import parse_overrides

  return Task(
    arguments.what,
    objective=getattr(arguments, "objective", "supervised"),  # inference has none
    dtype=arguments.dtype,
    superpixels=arguments.superpixels,
    num_segments=num_segments,
    fields=parse_overrides(arguments.set),
  )


def _measure_superpixels(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax.bench import superpixels

  del overrides
  superpixels.measure(
    arguments.data,
    split=arguments.split,
    size=arguments.size,
    num_segments=arguments.num_segments,
    num_images=arguments.num_images,
    batch_size=arguments.batch_size,
    out=arguments.out,
  )


def _measure_input(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax.bench import input
  from hseg_jax.config_file import load_config

  input.measure(
    load_config(arguments.config, overrides).to_dict(),
    num_batches=arguments.num_batches,
    repeats=arguments.repeats,
    out=arguments.out,
  )
