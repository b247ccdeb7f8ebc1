"""The `hseg` command: every mistake of the user's ends in one line and exit code 2."""

import argparse
import logging
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from hseg_jax import score_arguments
from hseg_jax.config_file import load_config
from hseg_jax.errors import UserError


class _Parser(argparse.ArgumentParser):
  def error(self, message: str) -> NoReturn:
    raise UserError(f"{message} (see {self.prog} --help).")


def _train(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax import train

  train.main(load_config(arguments.config, overrides), arguments.workdir)


def _evaluate(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax import evaluate

  config = load_config(arguments.config, overrides)
  _refuse_overwriting(pathlib.Path(arguments.out) / "metrics.json", arguments.force)
  evaluate.main(config, workdir=arguments.workdir, weights=arguments.weights, out=arguments.out)


def _export(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax.export import export

  del overrides
  _refuse_overwriting_weights(arguments)
  export(
    arguments.workdir,
    arguments.out,
    half=arguments.half,
    program=arguments.stablehlo,
    dataset=arguments.dataset,
    terms=arguments.terms,
    license=arguments.license,
    class_names=arguments.class_names,
    push=arguments.push,
    torch=arguments.torch,
  )


def _import_torch(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax import import_torch

  del overrides
  _refuse_overwriting_weights(arguments)
  import_torch.import_torch(
    arguments.checkpoint,
    arguments.out,
    name=arguments.model,
    overrides=import_torch.parse_overrides(arguments.set),
    encoder=arguments.encoder,
    ema=arguments.ema,
    image_size=arguments.image_size,
    head=arguments.head,
    class_names=arguments.class_names,
  )


def _segment(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax import segment_files

  del overrides
  segmenter = _find_method(arguments)
  if not segmenter.nests:
    for option in ("regions", "html"):
      if getattr(arguments, option):
        raise UserError(f"--{option} is for levels that nest; those of this method do not.")
    segment_files.segment_flat(
      segmenter,
      arguments.images,
      arguments.out,
      superpixels=arguments.superpixels,
      batch_size=arguments.batch_size,
      force=arguments.force,
    )
    return
  segment_files.segment(
    segmenter,
    arguments.images,
    arguments.out,
    superpixels=arguments.superpixels,
    num_regions=arguments.regions,
    page=arguments.html,
    batch_size=arguments.batch_size,
    force=arguments.force,
  )


def _features(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax import segment_files

  del overrides
  segment_files.extract_features(
    _segmenter(arguments),
    arguments.images,
    arguments.out,
    superpixels=arguments.superpixels,
    batch_size=arguments.batch_size,
    force=arguments.force,
  )


def _score(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax import score

  del overrides
  score.score(**score_arguments.keywords(arguments))


def _compare(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  from hseg_jax import compare

  del overrides
  compare.compare(
    arguments.methods,
    arguments.out,
    num_resamples=arguments.resamples,
    seed=arguments.seed,
    benchmark=arguments.benchmark,
    ground_truth=arguments.ground_truth,
    photographs=arguments.images,
    allow_missing=arguments.allow_missing,
    force=arguments.force,
  )


def _find_method(arguments: argparse.Namespace) -> Any:
  """What `hseg segment` segments by: pixels alone, or a model."""
  from hseg_jax.baselines import image_segmenter, methods

  if arguments.method is None or arguments.method in methods.TOKEN_METHODS:
    return _segmenter(arguments, method=arguments.method)
  for name in ("weights", "assignment"):
    if getattr(arguments, name) is not None:
      raise UserError(f"--method {arguments.method} uses no model; leave out --{name}.")
  return image_segmenter.ImageSegmenter(
    arguments.method,
    num_regions=arguments.num_clusters,
    size=arguments.size,
    num_segments=arguments.num_segments,
  )


def _segmenter(arguments: argparse.Namespace, **options: Any) -> Any:
  from hseg_jax.segment import Segmenter

  return Segmenter.from_pretrained(
    arguments.weights,
    size=arguments.size,
    num_segments=arguments.num_segments,
    num_clusters=arguments.num_clusters,
    assignment=arguments.assignment,
    **options,
  )


def _counts(text: str) -> tuple[int, ...]:
  try:
    return tuple(int(number) for number in text.split(","))
  except ValueError as error:
    raise argparse.ArgumentTypeError(
      f"{text!r} are no whole numbers with commas between"
    ) from error


def _refuse_overwriting_weights(arguments: argparse.Namespace) -> None:
  from hseg_jax.interop import exported

  # Each of them would be replaced or removed, somebody's own README.md as well.
  for name in (exported.INFO, exported.WEIGHTS, *exported.EXTRAS):
    _refuse_overwriting(pathlib.Path(arguments.out) / name, arguments.force)


def _refuse_overwriting(path: pathlib.Path, force: bool) -> None:
  if path.exists() and not force:
    raise UserError(f"{path} exists; give another folder or --force.")


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(prog="hseg", description=__doc__, allow_abbrev=False)
  commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

  def command(name: str, function, help: str, *, takes_config: bool = False) -> Any:
    # No abbreviations: --config.x must never be taken for --config.
    sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
    sub.set_defaults(function=function, takes_config=takes_config)
    if takes_config:
      sub.add_argument(
        "--config",
        required=True,
        metavar="FILE.py[:smoke]",
        help="see configs/; any field may be overridden by --config.FIELD=VALUE",
      )
    return sub

  train = command("train", _train, "Train a model, or go on training it.", takes_config=True)
  train.add_argument("--workdir", required=True, help="folder of the run")

  evaluate = command("evaluate", _evaluate, "Run a config's evaluators once.", takes_config=True)
  origin = evaluate.add_mutually_exclusive_group(required=True)
  origin.add_argument("--workdir", help="folder of a run")
  origin.add_argument("--weights", metavar="FOLDER", help="folder of exported weights")
  evaluate.add_argument("--out", required=True, metavar="DIR", help="gets metrics.json")
  evaluate.add_argument("--force", action="store_true", help="overwrite")

  export = command("export", _export, "Write a run's model as a folder of weights.")
  export.add_argument("--workdir", required=True, help="folder of the run")
  export.add_argument("--out", required=True, metavar="FOLDER", help="gets the weights")
  export.add_argument("--half", action="store_true", help="store them in half precision")
  export.add_argument("--stablehlo", action="store_true", help="add a program that runs alone")
  export.add_argument("--torch", action="store_true", help="add PyTorch weights")
  for name, what in (
    ("dataset", "public name of the training data, for the model card"),
    ("terms", "a sentence on how data and weights may be used, for the model card"),
    ("license", "of the weights, an identifier of the Hugging Face hub"),
  ):
    export.add_argument(f"--{name}", default="", metavar="TEXT", help=what)
  export.add_argument("--class-names", metavar="FILE.csv", help="readable names: class,name")
  export.add_argument("--push", metavar="OWNER/NAME", help="upload to the Hugging Face hub")
  export.add_argument("--force", action="store_true", help="overwrite")

  torch = command("import-torch", _import_torch, "Turn a PyTorch checkpoint into weights of ours.")
  torch.add_argument("checkpoint", metavar="CHECKPOINT", help="of any of the reference's trainings")
  torch.add_argument("--out", required=True, metavar="FOLDER", help="gets the weights")
  torch.add_argument("--model", metavar="NAME", help="the variant, if not as its tensors tell")
  torch.add_argument(
    "--set", action="append", default=[], metavar="FIELD=VALUE", help="of the model"
  )
  torch.add_argument("--encoder", choices=("online", "target"), default="online", help="of MoCo")
  torch.add_argument("--ema", action="store_true", help="take DeiT's averaged weights")
  torch.add_argument("--image-size", type=int, metavar="N", help="resize the positions to it")
  torch.add_argument("--head", choices=("keep", "drop"), default="keep")
  torch.add_argument("--class-names", metavar="FILE", help="a class a line")
  torch.add_argument("--force", action="store_true", help="overwrite")

  segment = command("segment", _segment, "Segment images into hierarchies of regions.")
  _add_images(segment, "gets NAME.npz, NAME.json and NAME.png of every image")
  _add_segmentation(segment)

  features = command("features", _features, "Write the features of images and their regions.")
  _add_images(features, "gets features.npz")

  score_arguments.add(command("score", _score, "Score predictions of any origin, without a model."))

  compare = command("compare", _compare, "Compare methods on the same images.")
  compare.add_argument(
    "methods",
    nargs="+",
    metavar="[NAME=]FOLDER",
    help="reports of hseg score; or predictions, runs or weights, which are scored first",
  )
  compare.add_argument("--out", required=True, metavar="DIR", help="gets compare.json and .html")
  compare.add_argument("--resamples", type=int, default=1000, metavar="N", help="default 1000")
  compare.add_argument("--seed", type=int, default=0, help="of the resamples")
  compare.add_argument("--benchmark", metavar="NAME", help="to score by, with its usual options")
  compare.add_argument("--ground-truth", metavar="PATH", help="to score against")
  compare.add_argument(
    "--images", metavar="FOLDER", help="for runs and weights to segment, and to show on the page"
  )
  compare.add_argument("--allow-missing", action="store_true", help="compare what all have")
  compare.add_argument("--force", action="store_true", help="overwrite")
  return parser


def _add_images(sub: argparse.ArgumentParser, out: str) -> None:
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
    "--num-clusters", type=_counts, metavar="A,B,C,D", help="the most regions of each level"
  )
  sub.add_argument(
    "--assignment",
    choices=("cosine", "path"),
    help="how regions form: cosine as published, path so that each hangs together",
  )
  sub.add_argument("--batch-size", type=int, default=16, metavar="N", help="images seen at once")
  sub.add_argument("--force", action="store_true", help="overwrite")


def _add_segmentation(sub: argparse.ArgumentParser) -> None:
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


def _run(argv: Sequence[str]) -> None:
  arguments, rest = _parser().parse_known_args(argv)
  prefix = "--config."
  for argument in rest:
    if not (arguments.takes_config and argument.startswith(prefix)):
      raise UserError(f"Unknown argument {argument!r} (see hseg --help).")
  arguments.function(arguments, [argument.removeprefix(prefix) for argument in rest])


def _log_plainly() -> None:
  """Warnings as plain sentences, and only our own: orbax's are about options set on purpose."""
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(message)s"))
  handler.addFilter(lambda record: "orbax" not in pathlib.Path(record.pathname).parts)
  logging.basicConfig(handlers=[handler], level=logging.WARNING)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command; returns 0, 2 after one line on a mistake of the user's, or 130 after Ctrl-C."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # tensorflow greets at length
  _log_plainly()
  try:
    _run(sys.argv[1:] if argv is None else argv)
  except UserError as error:
    print(f"hseg: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    return 128 + signal.SIGINT
  return 0


if __name__ == "__main__":
  sys.exit(main())
