"""The arguments of the commands on images, `hseg segment` and `hseg features`."""

import argparse
from typing import Any

from hseg_jax.argument_types import counts
from hseg_jax.errors import UserError


def add(sub: argparse.ArgumentParser, out: str) -> None:
  """Adds what the commands on images share."""
  sub.add_argument("images", nargs="+", metavar="IMAGE", help="file, folder or quoted pattern")
  sub.add_argument("--out", required=True, metavar="DIR", help=out)
  sub.add_argument(
    "--weights",
    metavar="FOLDER",
    help="exported weights, or OWNER/NAME on the Hugging Face hub; the package's own if not given",
  )
  sub.add_argument(
    "--superpixels", metavar="DIR", help="label maps NAME.npy, .npz or .png; computed if not given"
  )
  sub.add_argument(
    "--size", type=int, metavar="N", help="short side of what is segmented, in pixels"
  )
  sub.add_argument("--num-segments", type=int, metavar="N", help="the most superpixels of an image")
  sub.add_argument(
    "--num-clusters", type=counts, metavar="A,B,C,D", help="the most regions of each level"
  )
  sub.add_argument(
    "--assignment",
    choices=("cosine", "path"),
    help="how regions form: cosine as published, path so that each hangs together",
  )
  sub.add_argument("--batch-size", type=int, default=16, metavar="N", help="images seen at once")
  sub.add_argument("--force", action="store_true", help="overwrite")


def add_segmentation(sub: argparse.ArgumentParser) -> None:
  """Adds what only `hseg segment` has."""
  sub.add_argument(
    "--method",
    metavar="NAME",
    help="without a model: grid, slic, seeds, ward or felzenszwalb; of the tokens of a plain ViT: "
    "kmeans or spectral",
  )
  sub.add_argument("--regions", type=int, metavar="K", help="also cut each image into K regions")
  sub.add_argument(
    "--html", action="store_true", help="also write explorer.html, to walk through the regions"
  )


def find_method(arguments: argparse.Namespace) -> Any:
  """What `hseg segment` segments by: pixels alone, or a model."""
  from hseg_jax.baselines import image_segmenter, methods

  if arguments.method is None or arguments.method in methods.TOKEN_METHODS:
    return load_segmenter(arguments, method=arguments.method)
  for name in ("weights", "assignment"):
    if getattr(arguments, name) is not None:
      raise UserError(f"--method {arguments.method} uses no model; leave out --{name}.")
  return image_segmenter.ImageSegmenter(
    arguments.method,
    num_regions=arguments.num_clusters,
    size=arguments.size,
    num_segments=arguments.num_segments,
  )


def load_segmenter(arguments: argparse.Namespace, **options: Any) -> Any:
  """The model that was asked for, or the package's own."""
  from hseg_jax.segment import Segmenter

  return Segmenter.from_pretrained(
    arguments.weights,
    size=arguments.size,
    num_segments=arguments.num_segments,
    num_clusters=arguments.num_clusters,
    assignment=arguments.assignment,
    **options,
  )
