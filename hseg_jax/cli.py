"""The `hseg` command: every mistake of the user's ends in one line and exit code 2."""

import argparse
import logging
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from hseg_jax import (
  allocation,
  bench_arguments,
  compilations,
  files,
  image_arguments,
  score_arguments,
)
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
  segmenter = image_arguments.find_method(arguments)
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
    image_arguments.load_segmenter(arguments),
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


def _bench(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  if arguments.out is not None:
    out = pathlib.Path(arguments.out)
    _refuse_overwriting(out, arguments.force, another="file")
    if out.is_dir():
      raise UserError(f"{out} is a folder; give a file.")
    files.make_folder(out.parent)  # what cannot be written is better known before the measurement
  arguments.measure(arguments, overrides)


def _refuse_overwriting_weights(arguments: argparse.Namespace) -> None:
  from hseg_jax.interop import exported

  # Each of them would be replaced or removed, somebody's own README.md as well.
  for name in (exported.INFO, exported.WEIGHTS, *exported.EXTRAS):
    _refuse_overwriting(pathlib.Path(arguments.out) / name, arguments.force)


def _refuse_overwriting(path: pathlib.Path, force: bool, another: str = "folder") -> None:
  if path.exists() and not force:
    raise UserError(f"{path} exists; give another {another} or --force.")


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
        metavar="FILE.py[:ARG]",
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
  _add_export(export)
  what = "Turn a PyTorch checkpoint into weights of ours."
  _add_import_torch(command("import-torch", _import_torch, what))
  segment = command("segment", _segment, "Segment images into hierarchies of regions.")
  image_arguments.add(segment, "gets NAME.npz, NAME.json and NAME.png of every image")
  image_arguments.add_segmentation(segment)

  features = command("features", _features, "Write the features of images and their regions.")
  image_arguments.add(features, "gets features.npz")

  score_arguments.add(command("score", _score, "Score predictions of any origin, without a model."))

  _add_compare(command("compare", _compare, "Compare methods on the same images."))
  what = "Measure speed and quality, a JSON line each."
  bench_arguments.add(command("bench", _bench, what))
  return parser


def _add_export(sub: argparse.ArgumentParser) -> None:
  sub.add_argument("--workdir", required=True, help="folder of the run")
  sub.add_argument("--out", required=True, metavar="FOLDER", help="gets the weights")
  sub.add_argument("--half", action="store_true", help="store them in half precision")
  sub.add_argument("--stablehlo", action="store_true", help="add a program that runs alone")
  sub.add_argument("--torch", action="store_true", help="add PyTorch weights")
  for name, what in (
    ("dataset", "public name of the training data, for the model card"),
    ("terms", "a sentence on how data and weights may be used, for the model card"),
    ("license", "of the weights, an identifier of the Hugging Face hub"),
  ):
    sub.add_argument(f"--{name}", default="", metavar="TEXT", help=what)
  sub.add_argument("--class-names", metavar="FILE.csv", help="readable names: class,name")
  sub.add_argument("--push", metavar="OWNER/NAME", help="upload to the Hugging Face hub")
  sub.add_argument("--force", action="store_true", help="overwrite")


def _add_import_torch(sub: argparse.ArgumentParser) -> None:
  sub.add_argument("checkpoint", metavar="CHECKPOINT", help="of any of the reference's trainings")
  sub.add_argument("--out", required=True, metavar="FOLDER", help="gets the weights")
  sub.add_argument("--model", metavar="NAME", help="the variant, if not as its tensors tell")
  sub.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of the model")
  sub.add_argument("--encoder", choices=("online", "target"), default="online", help="of MoCo")
  sub.add_argument("--ema", action="store_true", help="take DeiT's averaged weights")
  sub.add_argument("--image-size", type=int, metavar="N", help="resize the positions to it")
  sub.add_argument("--head", choices=("keep", "drop"), default="keep")
  sub.add_argument("--class-names", metavar="FILE", help="a class a line")
  sub.add_argument("--force", action="store_true", help="overwrite")


def _add_compare(sub: argparse.ArgumentParser) -> None:
  sub.add_argument(
    "methods",
    nargs="+",
    metavar="[NAME=]FOLDER",
    help="reports of hseg score; or predictions, runs or weights, which are scored first",
  )
  sub.add_argument("--out", required=True, metavar="DIR", help="gets compare.json and .html")
  sub.add_argument("--resamples", type=int, default=1000, metavar="N", help="default 1000")
  sub.add_argument("--seed", type=int, default=0, help="of the resamples")
  sub.add_argument("--benchmark", metavar="NAME", help="to score by, with its usual options")
  sub.add_argument("--ground-truth", metavar="PATH", help="to score against")
  sub.add_argument(
    "--images", metavar="FOLDER", help="for runs and weights to segment, and to show on the page"
  )
  sub.add_argument("--allow-missing", action="store_true", help="compare what all have")
  sub.add_argument("--force", action="store_true", help="overwrite")


def _run(argv: Sequence[str] | None) -> None:
  arguments, rest = _parser().parse_known_args(argv)
  prefix = "--config."
  for argument in rest:
    if not (arguments.takes_config and argument.startswith(prefix)):
      raise UserError(f"Unknown argument {argument!r} (see hseg --help).")
  if argv is None and arguments.function is not _score:  # which runs without jax
    allocation.adapt()  # the process is this command's alone
  arguments.function(arguments, [argument.removeprefix(prefix) for argument in rest])


def _log_plainly() -> None:
  """Warnings as plain sentences, and only our own: orbax's are about options set on purpose."""
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(message)s"))
  handler.addFilter(lambda record: "orbax" not in pathlib.Path(record.pathname).parts)
  logging.basicConfig(handlers=[handler], level=logging.WARNING)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command; returns 0, 2 after one line on a mistake of the user's, 130 after Ctrl-C, or
  141 once nobody reads what it prints."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # tensorflow greets at length
  compilations.keep()
  _log_plainly()
  try:
    _run(argv)
  except UserError as error:
    print(f"hseg: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    return 128 + signal.SIGINT
  except BrokenPipeError:  # whoever reads, `head` say, has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
    return 128 + signal.SIGPIPE
  return 0


if __name__ == "__main__":
  sys.exit(main())
