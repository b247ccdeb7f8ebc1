"""The arguments of `hseg score`, which differ by benchmark."""

import argparse
from typing import Any

# Namespaces are flat: these mark what is meant for the benchmark's `tally` and for `truths.find`.
_OPTION, _TRUTH = "option.", "truth."


def add(parser: argparse.ArgumentParser) -> None:
  """Adds a command for each benchmark."""
  commands = parser.add_subparsers(required=True, metavar="BENCHMARK", dest="benchmark")

  def command(name: str, help: str) -> Any:
    sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
    _add_common(sub)
    return sub

  def option(sub: Any, name: str, **options: Any) -> None:
    sub.add_argument(f"--{name}", dest=_OPTION + name.replace("-", "_"), **options)

  regions = dict(
    type=_counts,
    default=(),
    metavar="A,B,...",
    help="score cuts into so many regions, or levels of about so many where there is no tree",
  )
  tolerance = dict(type=_share, metavar="SHARE", help="of the diagonal, for boundaries to agree")

  bsds = command("bsds", "Regions and boundaries against several annotators (BSDS500).")
  option(
    bsds,
    "scores",
    type=_parts,
    metavar="A,B",
    help="regions, which are quick, boundaries, which are slow, or both (default)",
  )
  option(
    bsds,
    "thresholds",
    type=_count,
    metavar="N",
    help="of contour maps (default 99); also cuts the contour maps of hierarchies",
  )
  option(bsds, "regions", **regions)
  bsds.add_argument("--soft", action="store_true", help="images are maps of boundary strength")

  superpixels = command("superpixels", "One fine segmentation against borders people drew.")
  option(superpixels, "level", type=int, default=0, metavar="L", help="0 = finest (default)")
  option(superpixels, "tolerance", default=0.0025, **tolerance)

  part_whole = command("part-whole", "Objects and their parts, and whether parts nest in wholes.")
  option(part_whole, "regions", **regions)
  part_whole.add_argument(
    "--size",
    dest=f"{_TRUTH}size",
    type=_count,
    metavar="N",
    help="side of PartWorld's images (default 64)",
  )

  semantic = command("semantic", "Class maps against class maps.")
  option(semantic, "num-classes", type=_count, metavar="N", help="if the ground truth has no names")
  option(
    semantic, "ignore", type=int, default=255, metavar="ID", help="counts nowhere (default 255)"
  )
  option(semantic, "tolerance", default=0.0075, **tolerance)
  semantic.add_argument(
    "--level",
    dest=f"{_TRUTH}level",
    metavar="NAME",
    help="of a ground truth of parts, the one with the classes",
  )

  figure = command("figure-ground", "Soft maps, masks or regions against masks of figures.")
  figure.add_argument("--soft", action="store_true", help="images are strengths, not ids")
  option(
    figure,
    "threshold",
    choices=("mass", "adaptive", "fixed"),
    default="mass",
    help="how a soft map becomes a mask (default mass)",
  )
  option(
    figure,
    "value",
    type=float,
    metavar="X",
    help="share of the mass to keep (default 0.6), or the fixed threshold (0.5)",
  )
  option(figure, "rescale", action="store_true", help="bring each soft map to [0, 1] first")
  option(figure, "regions", **regions)
  figure.add_argument(
    "--binary-masks",
    dest=f"{_TRUTH}binary_masks",
    action="store_true",
    help="masks are 0 and 255 = figure, not classes and 255 = void",
  )


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
  sub.add_argument("--workers", type=_count, metavar="N", help="processes; one a core if not given")
  sub.add_argument("--force", action="store_true", help="overwrite")


def _count(text: str) -> int:
  number = int(text) if text.isdecimal() else 0
  if number < 1:
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
  return number


def _counts(text: str) -> tuple[int, ...]:
  return tuple(map(_count, text.split(",")))


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
