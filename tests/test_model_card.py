"""The model card says what model.json says, and nothing that it does not."""

import json

import jax
import numpy as np
import pytest
import yaml

import hseg_jax
from hseg_jax.interop import exported, model_card

INFO = {
  "name": "cast_tiny",
  "num_parameters": 2_537_794,
  "regions": [32, 16, 8, 4],
  "preprocessing": {"image_size": 64, "superpixels": {"method": "seeds", "num_segments": 64}},
  "class_names": ["ant", "bee"],
  "step": 3120,
  "metrics": {"val/top1": 0.5232, "val/loss": 1.74},
  "commit": "abc123",
  "half": True,
  "dataset": 'Tiny "Image" Net: 50 %',
  "terms": "For research only.",
  "license": "other",
  "config": {"objective": {"name": "supervised"}, "batch_size": 64},
  "program": {
    "file": "model.stablehlo",
    "inputs": {"image": "uint8 [b, 64, 64, 3]", "segments": "int32 [b, 64, 64]"},
    "outputs": {"logits": "float32 [b, 2]"},
  },
}
LEAST = {"name": "vit_small", "num_parameters": 5, "preprocessing": {"image_size": 224}}


def split(card):
  _, front, body = card.split("---\n", 2)
  return yaml.safe_load(front), body


def test_says_everything_it_knows():
  front, body = split(model_card.render(json.loads(json.dumps(INFO))))
  assert front == {
    "library_name": "hseg_jax",
    "pipeline_tag": "image-segmentation",
    "tags": ["jax", "flax", "image-classification", "hierarchical-segmentation"],
    "license": "other",
    "datasets": ["tiny-image-net-50"],
    "metrics": ["accuracy"],
  }
  for text in (
    "# cast_tiny",
    "2,537,794 parameters",
    "at most 64, 32, 16, 8 and 4 regions",
    "2 classes",
    'Trained on Tiny "Image" Net: 50 % to recognise, with a class label',
    "3,120 steps of 64 images of 64 x 64 pixels",
    "`abc123`",
    "For research only.",
    "| val/top1 | 0.5232 |",
    "half precision",
    "call(image, segments)",
    '# out["logits"]: float32 [b, 2]',
  ):
    assert text in body, text


def test_says_nothing_of_what_is_not_known():
  front, body = split(model_card.render(LEAST))
  assert front.keys() == {"library_name", "pipeline_tag", "tags"}
  assert front["pipeline_tag"] == "image-feature-extraction"
  for text in ("Data", "Scores", "classes", "Trained", "half", "stablehlo", "None", "()"):
    assert text not in body, text
  found = LEAST | {"dataset": "COCO", "regions": [4, 2], "preprocessing": INFO["preprocessing"]}
  front, body = split(model_card.render(found))
  assert "Trained on COCO.\n" in body and front["datasets"] == ["coco"]
  assert front["pipeline_tag"] == "image-segmentation"


@pytest.mark.parametrize(
  "fields, classifies",
  [
    (dict(num_classes=3), True),
    (dict(num_classes=0), False),
    (dict(num_classes=256, head_kind="projector"), False),
    (dict(num_classes=21, head_kind="classifier", output="segments"), False),
  ],
)
def test_promises_probabilities_of_classifiers_alone(fields, classifies):
  body = model_card.render(INFO | {"model": {"name": "cast_small", **fields}})
  assert 'segmenter("photo.jpg")' in body  # which turns a photograph upright
  assert ("probabilities" in body) == classifies


@pytest.mark.parametrize("objective", ["supervised", "contrastive"])
def test_tells_how_it_was_trained(objective):
  config = {"objective": {"name": objective}, "batch_size": 8}
  body = model_card.render(INFO | {"config": config})
  assert ("without labels" in body) == (objective == "contrastive")


def test_the_code_of_a_vits_card_runs(tmp_path):
  fields = dict(dim=16, depths=(1,), num_heads=2, num_classes=3, stem_strides=(4,))
  fields |= {"name": "vit_small", "position_grid": (2, 2)}
  model, image = hseg_jax.create_model(**fields), np.zeros((1, 8, 8, 3), np.float32)
  exported.save(tmp_path, jax.jit(model.init)(jax.random.key(0), image), {"model": fields})
  code = model_card.render(LEAST).split("```python\n")[1].split("```")[0]
  names = {"FOLDER": tmp_path, "image": image}
  exec(code, names)
  assert names["out"].logits.shape == (1, 3)
