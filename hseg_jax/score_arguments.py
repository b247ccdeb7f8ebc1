"""The arguments of `hseg score`, which differ by benchmark."""

import argparse
from collections.abc import Sequence
from typing import Any

from hseg_jax.argument_types import count, counts

# Namespaces are flat: these mark what is meant for the benchmark's `tally` and for `truths.find`.
_OPTION, _TRUTH = "option.", "truth."


def add(parser: argparse.ArgumentParser) -> None:
  """Adds a command for each benchmark."""
  commands = parser.add_subparsers(required=True, metavar="BENCHMARK", dest="benchmark")
  for name, fill, help in (
    ("bsds", _add_bsds, "Regions and boundaries against several annotators (BSDS500)."),
    ("superpixels", _add_superpixels, "One fine segmentation against borders people drew."),
    ("part-whole", _add_part_whole, "Objects and their parts, and whether parts nest in wholes."),
    ("semantic", _add_semantic, "Class maps against class maps."),
    ("figure-ground", _add_figure_ground, "Soft maps, masks or regions against figures."),
  ):
    sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
    _add_common(sub)
    fill(sub)


def parse(words: Sequence[str]) -> dict[str, Any]:
  """What words on a command line stand for, as `score.score` takes it."""
  parser = argparse.ArgumentParser()
  add(parser)
  return keywords(parser.parse_args(words))


def keywords(arguments: argparse.Namespace) -> dict[str, Any]:
  """What was given, as `score.score` takes it."""
  values = vars(arguments)
  part = lambda prefix: {
    name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)
  }
  names = "benchmark", "predictions", "ground_truth", "out", "photographs", "allow_missing"
  found = {name: values[name] for name in (*names, "workers", "force")}
  soft = values.get("soft", False)
  return found | {"soft": soft, "options": part(_OPTION), "truth_options": part(_TRUTH)}


def _add_common(sub: argparse.ArgumentParser) -> None:
  sub.add_argument("--predictions", required=True, metavar="PATH", help="folder, or COCO file")
  sub.add_argument("--ground-truth", required=True, metavar="PATH", help="folder, or COCO file")
  sub.add_argument("--out", required=True, metavar="DIR", help="gets the report")
  sub.add_argument("--images", dest="photographs", metavar="FOLDER", help="shown in the report")
  sub.add_argument("--allow-missing", action="store_true", help="score what both sides have")
  sub.add_argument("--workers", type=count, metavar="N", help="processes; one a core if not given")
  sub.add_argument("--force", action="store_true", help="overwrite")


def _add_bsds(sub: argparse.ArgumentParser) -> None:
  what = "regions, which are quick, boundaries, which are slow, or both (default)"
  _add_option(sub, "scores", type=_parts, metavar="A,B", help=what)
  what = "of contour maps (default 99); also cuts the contour maps of hierarchies"
  _add_option(sub, "thresholds", type=count, metavar="N", help=what)
  _add_regions(sub)
  sub.add_argument("--soft", action="store_true", help="images are maps of boundary strength")


def _add_superpixels(sub: argparse.ArgumentParser) -> None:
  _add_option(sub, "level", type=int, default=0, metavar="L", help="0 = finest (default)")
  _add_tolerance(sub, 0.0025)


def _add_part_whole(sub: argparse.ArgumentParser) -> None:
  _add_regions(sub)
  what = "side of PartWorld's images (default 64)"
  sub.add_argument("--size", dest=f"{_TRUTH}size", type=count, metavar="N", help=what)


def _add_semantic(sub: argparse.ArgumentParser) -> None:
  what = "if the ground truth has no names"
  _add_option(sub, "num-classes", type=count, metavar="N", help=what)
  what = "counts nowhere (default 255)"
  _add_option(sub, "ignore", type=int, default=255, metavar="ID", help=what)
  _add_tolerance(sub, 0.0075)
  what = "of a ground truth of parts, the one with the classes (default the finest)"
  sub.add_argument("--level", dest=f"{_TRUTH}level", metavar="NAME", help=what)


def _add_figure_ground(sub: argparse.ArgumentParser) -> None:
  sub.add_argument("--soft", action="store_true", help="images are strengths, not ids")
  ways = ("mass", "adaptive", "fixed")
  what = "how a soft map becomes a mask (default mass)"
  _add_option(sub, "threshold", choices=ways, default="mass", help=what)
  what = "share of the mass to keep (default 0.6), or the fixed threshold (0.5)"
  _add_option(sub, "value", type=float, metavar="X", help=what)
  _add_option(sub, "rescale", action="store_true", help="bring each soft map to [0, 1] first")
  _add_regions(sub)
  what = "masks are 0 and 255 = figure, not classes and 255 = void"
  sub.add_argument("--binary-masks", dest=f"{_TRUTH}binary_masks", action="store_true", help=what)


def _add_regions(sub: argparse.ArgumentParser) -> None:
  what = "score cuts into so many regions, or levels of about so many where there is no tree"
  _add_option(sub, "regions", type=counts, default=(), metavar="A,B,...", help=what)


def _add_tolerance(sub: argparse.ArgumentParser, default: float) -> None:
  what = f"of the diagonal, for boundaries to agree (default {default})"
  _add_option(sub, "tolerance", type=_share, default=default, metavar="SHARE", help=what)


def _add_option(sub: argparse.ArgumentParser, name: str, **options: Any) -> None:
  sub.add_argument(f"--{name}", dest=_OPTION + name.replace("-", "_"), **options)


def _share(text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = -1
  if not 0 <= value <= 1:
    raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 1")
  return value


def _parts(text: str) -> tuple[str, ...]:
  parts = tuple(text.split(","))
  if not set(parts) <= {"regions", "boundaries"}:
    raise argparse.ArgumentTypeError(f"{text!r} is not among regions, boundaries")
  return parts
