"""Regions as json: masks against the COCO format, and families against the label maps."""

import json

import numpy as np
import pytest

from hseg_jax import regions
from hseg_jax.hierarchy import Hierarchy
from tests.segmentation_outputs import check_regions


def mask_of(picture):
  runs = regions.find_runs(picture.astype(np.int32))
  ones = runs.label == 1
  return regions.encode_mask(runs.start[ones], runs.length[ones], picture.size)


def nested(seed, shape=(13, 9)):
  rng = np.random.default_rng(seed)
  parents = [rng.integers(0, k, n) for n, k in ((20, 8), (8, 3))]
  tokens = [rng.normal(size=(n, 4)).astype(np.float32) for n in (20, 8, 3)]
  return Hierarchy.from_assignments(rng.integers(0, 20, shape), parents, tokens)


def test_masks_are_those_of_coco():
  picture = np.zeros((400, 300), bool)
  picture[100:, 70:73] = picture[:5, 200] = picture[390:, 299] = True
  # Written by pycocotools 2.0.11: counts of one to four characters, and differences below zero.
  assert mask_of(picture) == "T^k0\\9T3000\\`a1iFQ^E5"
  assert mask_of(np.ones((2, 3), bool)) == "06"
  assert mask_of(np.array([[True, False]])) == "011"


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (40, 3), (31, 57)])
def test_masks_areas_and_boxes_are_those_of_the_label_map(shape):
  labels = np.unique(np.random.default_rng(0).integers(0, 5, shape), return_inverse=True)[1]
  for each in (labels.reshape(shape), np.sort(labels).reshape(shape)):
    found = regions.describe(Hierarchy(each.astype(np.int32)))
    check_regions(found["levels"][0], each)


def test_families_and_cuts():
  hierarchy = nested(0)
  found = json.loads(json.dumps(regions.describe(hierarchy, num_regions=5)))
  assert (found["height"], found["width"]) == (13, 9) and "classes" not in found
  for level, parents in enumerate(hierarchy.parents):
    assert [region["parent"] for region in found["levels"][level]] == parents.tolist()
    for region in found["levels"][level + 1]:
      assert region["children"] == np.flatnonzero(parents == region["id"]).tolist()
  assert {region["parent"] for region in found["levels"][2]} == {None}
  check_regions(found["cut"], hierarchy.cut(5))


def test_classes_have_names_where_they_are_known():
  hierarchy = Hierarchy(np.zeros((2, 2), np.int32), probabilities=np.float32([0.2, 0.7, 0.1]))
  found = regions.describe(hierarchy, ("ant", "bee", "cat"))["classes"]
  assert found[0] == {"id": 1, "name": "bee", "probability": 0.7}
  assert [each["id"] for each in regions.describe(hierarchy)["classes"]] == [1, 0, 2]
  assert "name" not in regions.describe(hierarchy)["classes"][0]


def test_regions_have_the_mean_class_of_their_pixels():
  labels = np.array([[0, 0, 0, 1, 2]])
  logits = np.log(np.float32([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8]]))
  hierarchy = Hierarchy(labels, (np.array([0, 0, 1]),), logits=logits)
  fine, coarse = regions.describe(hierarchy, ("ant", "bee"), num_regions=1)["levels"]
  assert [region["class"]["id"] for region in fine] == [0, 1, 1]
  # Three pixels of 0.4 and one of 0.9 are 0.525 on average; unweighted it would be 0.65.
  assert coarse[0]["class"] == {"id": 1, "name": "bee", "probability": 0.525}


def test_a_cut_is_inserted_between_levels():
  hierarchy = nested(1)
  sizes = hierarchy.sizes
  for size in (2, 5, 12):
    assert size not in sizes
    wider = regions.insert_cut(hierarchy, size)
    assert wider.sizes == tuple(sorted({*sizes, size}, reverse=True))
    np.testing.assert_array_equal(wider.labels(wider.sizes.index(size)), hierarchy.cut(size))
    for level, count in enumerate(sizes):
      np.testing.assert_array_equal(wider.labels(wider.sizes.index(count)), hierarchy.labels(level))
  assert regions.insert_cut(hierarchy, sizes[1]).sizes == sizes
  assert regions.insert_cut(hierarchy, 1000).sizes == sizes
