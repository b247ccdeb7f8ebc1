"""The model card of a weights folder: what `model.json` says, in the Hugging Face layout.

Nothing is said that `model.json` does not say.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hseg_jax.interop import exported

_OBJECTIVES = {
  "supervised": "to recognise, with a class label for each image and nothing else",
  "contrastive": "to tell images apart (MoCo v3), without labels",
}
_CAST = "[Ke, Mo, Yu, ICLR 2024](https://arxiv.org/abs/2210.00314)"


def render(info: Mapping[str, Any]) -> str:
  """Writes the card.

  Args:
    info: what `model.json` says; of its entries only `name`, `num_parameters` and `preprocessing`
      must be there.

  Returns:
    Markdown behind a front matter in YAML.
  """
  sections = [
    _front_matter(info),
    f"# {info['name']}\n\n{_introduction(info)}",
    f"## Use\n\n{_usage(info)}",
    _section("Data and terms", _data(info)),
    _section("Scores", _scores(info)),
    f"## Files\n\n{_files(info)}",
  ]
  return "\n\n".join(filter(None, sections)) + "\n"


def _section(title: str, text: str) -> str:
  return f"## {title}\n\n{text}" if text else ""


def _front_matter(info: Mapping[str, Any]) -> str:
  task = "image-classification" if info.get("class_names") else "image-feature-extraction"
  fields: dict[str, str | list[str]] = {
    "library_name": "hseg_jax",
    "pipeline_tag": "image-segmentation" if info.get("regions") else task,
    "tags": ["jax", "flax", *([task, "hierarchical-segmentation"] if info.get("regions") else [])],
  }
  if info.get("license"):
    fields["license"] = info["license"]
  if info.get("dataset"):
    fields["datasets"] = [re.sub(r"[^\w./-]+", "-", info["dataset"].lower()).strip("-")]
  if "val/top1" in info.get("metrics", {}):
    fields["metrics"] = ["accuracy"]
  # Every JSON value is a YAML value.
  lines = [f"{name}: {json.dumps(value)}" for name, value in fields.items()]
  return "\n".join(("---", *lines, "---"))


def _introduction(info: Mapping[str, Any]) -> str:
  count, classes = f"{info['num_parameters']:,}", len(info.get("class_names", ()))
  if not info.get("regions"):
    lines = [f"A vision transformer of {count} parameters."]
  else:
    superpixels = info["preprocessing"]["superpixels"]
    numbers = ", ".join(map(str, (superpixels["num_segments"], *info["regions"][:-1])))
    lines = [
      f"CAST ({_CAST}) with {count} parameters: it segments a photograph into a hierarchy of at "
      f"most {numbers} and {info['regions'][-1]} regions while it recognises the whole."
    ]
  if classes:
    lines.append(f"It knows {classes} classes.")
  return " ".join(lines)


def _usage(info: Mapping[str, Any]) -> str:
  if info.get("regions"):
    fields = info.get("model", {})
    classifies = fields.get("num_classes", 1) and fields.get("head_kind", "linear") == "linear"
    results = {"hierarchy.labels(1)": "[h, w]", "hierarchy.cut(10)": "[h, w]"}
    if classifies and fields.get("output", "image") == "image":
      results["hierarchy.probabilities"] = "[c]"
    code = [
      "import hseg_jax",
      "",
      "segmenter = hseg_jax.Segmenter.from_pretrained(FOLDER)  # or OWNER/NAME on the hub",
      'hierarchy = segmenter("photo.jpg")',
      f"{', '.join(results)}  # {', '.join(results.values())}",
    ]
  else:
    superpixels = info["preprocessing"].get("superpixels", {}).get("method", "none")
    arguments = "image" if superpixels == "none" else "image, segments"
    code = [
      "import hseg_jax, jax",
      "from hseg_jax.interop.exported import unflatten",
      "",
      "weights, info = hseg_jax.load_exported(FOLDER)  # numpy arrays",
      'model, variables = hseg_jax.create_model(**info["model"]), unflatten(weights)',
      f"out = jax.jit(model.apply)(variables, {arguments})  # image: normalised, [b, h, w, 3]",
    ]
  return _block("python", code)


def _data(info: Mapping[str, Any]) -> str:
  lines, dataset = [], info.get("dataset")
  if config := info.get("config"):
    size, purpose = info["preprocessing"]["image_size"], _OBJECTIVES[config["objective"]["name"]]
    lines.append(
      f"Trained{f' on {dataset}' if dataset else ''} {purpose}: {info['step']:,} steps of "
      f"{config['batch_size']} images of {size} x {size} pixels. `model.json` holds the whole "
      "config."
    )
  elif dataset:
    lines.append(f"Trained on {dataset}.")
  if source := info.get("source"):
    lines.append(
      f"Converted from a file of PyTorch weights, `{source['file']}` ({source['kind']}). hseg_jax "
      "knows nothing else of their training."
    )
  if info.get("commit"):
    verb = "Converted" if source else "Exported"
    lines.append(f"{verb} by commit `{info['commit']}` of hseg_jax.")
  if info.get("terms"):
    lines.append(info["terms"])
  return "\n\n".join(lines)


def _scores(info: Mapping[str, Any]) -> str:
  if not info.get("metrics"):
    return ""
  rows = [f"| {name} | {value:.4g} |" for name, value in info["metrics"].items()]
  table = "\n".join(("| score | value |", "|---|---|", *rows))
  return f"Of the run's evaluation at or before step {info['step']:,}.\n\n{table}"


def _files(info: Mapping[str, Any]) -> str:
  half = (
    " in half precision: float16, save the last pooling's kernels `X` in int8, to be multiplied "
    "by `X.scale`, and the statistics in float32; `load_exported` does so"
  )
  rows = [
    f"* `model.safetensors`: parameters and batch statistics under readable names"
    f"{half if info.get('half') else ', float32'}.",
    "* `model.json`: the model's arguments, its preprocessing, and what is known of it.",
  ]
  if info.get("torch"):
    rows.append(
      f"* `{exported.TORCH_WEIGHTS}`: the same under the names of the published PyTorch classes, "
      "for `load_state_dict`."
    )
  if program := info.get("program"):
    rows.append(
      f"* `{program['file']}`: the model as a program with its parameters inside, for CPUs, GPUs "
      "and TPUs; it needs jax and flatbuffers, not hseg_jax:"
    )
    rows.append("\n" + _program(program))
  return "\n".join(rows)


def _program(program: Mapping[str, Any]) -> str:
  arguments = ", ".join(program["inputs"])
  code = [
    "import pathlib, jax.export",
    f'data = bytearray(pathlib.Path("{program["file"]}").read_bytes())',
    f"out = jax.export.deserialize(data).call({arguments})",
    *(f"# {name}: {what}" for name, what in program["inputs"].items()),
    *(f'# out["{name}"]: {what}' for name, what in program["outputs"].items()),
  ]
  return _block("python", code)


def _block(language: str, lines: Sequence[str]) -> str:
  return "\n".join((f"```{language}", *lines, "```"))
