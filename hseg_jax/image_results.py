"""What the commands on image files write of each image: hierarchies, label maps, features."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from hseg_jax import files, regions
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.inputs import Input
from hseg_jax.model_input import Prepared, resize
from hseg_jax.viz import explorer, panels

ENDINGS = (".npz", ".json", ".png")  # of an image's results

_PICTURE = 640  # longest side of an image in a picture, in pixels


class Job(NamedTuple):
  """An image on its way: what it is, a copy small enough to draw, and what the model is to see."""

  input: Input
  picture: UInt8[np.ndarray, "h w 3"]
  prepared: Prepared


def path_of(out: str | os.PathLike, each: Input, ending: str) -> pathlib.Path:
  """The file of an image's results with an ending."""
  return pathlib.Path(out, each.name + ending)


def shrink(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "_ _ 3"]:
  """A copy whose longer side has so many pixels at most."""
  shrink = min(side / max(image.shape[:2]), 1)
  return resize(image, *(max(round(side * shrink), 1) for side in image.shape[:2]))


def write(
  job: Job,
  hierarchy: Hierarchy,
  class_names: Sequence[str],
  out: pathlib.Path,
  num_regions: int | None,
) -> dict[str, Any]:
  """Writes the results of one image; returns what the json says."""
  said = {"image": str(job.input.path), **regions.describe(hierarchy, class_names, num_regions)}
  title = ""
  if "classes" in said:
    best = said["classes"][0]
    name = str(best.get("name", best["id"])).split(",")[0]  # of synonyms the first
    title = f"{name} {best['probability']:.0%}"
  drawn = hierarchy if num_regions is None else regions.insert_cut(hierarchy, num_regions)
  picture = Image.fromarray(panels.panel(shrink(job.picture, _PICTURE), drawn, title=title))
  npz, text, png = (path_of(out, job.input, ending) for ending in ENDINGS)
  with files.whole(npz) as partial:
    hierarchy.save(partial)
  with files.whole(text) as partial:
    partial.write_text(json.dumps(said) + "\n", encoding="utf-8")
  with files.whole(png) as partial:
    picture.save(partial, format="png")
  return said


def write_maps(maps: Sequence[Int32[np.ndarray, "h w"]], paths: Sequence[pathlib.Path]) -> None:
  """Writes label maps as pictures of one channel: 8 bits, or 16 for more than 256 regions."""
  for labels, path in zip(maps, paths, strict=True):
    kind = np.uint8 if labels.max() < 256 else np.uint16
    with files.whole(path) as partial:
      Image.fromarray(labels.astype(kind)).save(partial, format="png")


def pack(
  job: Job, hierarchy: Hierarchy, class_names: Sequence[str], said: dict[str, Any]
) -> dict[str, Any]:
  """An image for the page."""
  classes = [
    [str(region["class"].get("name", region["class"]["id"])) for region in level]
    for level in said["levels"]
    if "class" in level[0]
  ]
  entry = explorer.Entry(job.input.name, job.picture, hierarchy, class_names, classes)
  return explorer.pack(entry)


def table(rows: dict[str, dict[str, Any]], class_names: Sequence[str]) -> dict[str, np.ndarray]:
  """The arrays of `features.npz`."""
  found = list(rows.values())
  arrays = {
    "names": np.array(list(rows)),
    "image_features": np.stack([row["image_features"] for row in found]),
  }
  if found[0]["probabilities"] is not None:
    arrays["probabilities"] = np.stack([row["probabilities"] for row in found])
    if class_names:
      arrays["class_names"] = np.array(class_names)
  for level in range(len(found[0]["features"])):
    features = [row["features"][level] for row in found]
    arrays[f"features_{level}"] = np.concatenate(features)
    arrays[f"image_{level}"] = np.repeat(np.arange(len(found)), [len(each) for each in features])
  return arrays
