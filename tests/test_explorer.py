"""What the explorer's page holds, and that text from outside stays text."""

import base64
import html
import json
import re
import zlib

import numpy as np
import pytest
from explorer_entries import HOSTILE, entry_of, photograph, quarters, random_hierarchy

from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.viz import explorer


def unpack_labels(packed):
  rows = np.frombuffer(zlib.decompress(base64.b64decode(packed["labels"])), "<u2")
  rows = rows.reshape(packed["rows"], packed["columns"])
  return np.cumsum(rows, axis=0, dtype=np.uint16)


def test_packs_labels_areas_and_unions():
  hierarchy = random_hierarchy(0)
  packed = explorer.pack(entry_of(hierarchy))
  np.testing.assert_array_equal(unpack_labels(packed), hierarchy.segments)
  assert packed["areas"] == np.bincount(hierarchy.segments.ravel()).tolist()
  for level, size in enumerate(hierarchy.sizes):
    unions = np.reshape(packed["merges"][level], (-1, 2))
    np.testing.assert_array_equal(unions, hierarchy.merges(level))
    assert len(packed["colors"][level]) == 6 * size
  assert packed["parents"] == [parents.tolist() for parents in hierarchy.parents]
  assert packed["picture"].startswith("data:image/png") and packed["thumbnail"] == ""
  assert json.loads(json.dumps(packed))["size"] == [80, 60]


def test_large_images_are_shrunk_but_their_areas_are_not():
  labels = np.zeros((500, 2000), np.int32)
  labels[:, 1000:] = 1
  labels[0, 0] = 2  # too small for the page
  packed = explorer.pack(entry_of(Hierarchy(labels)))
  assert (packed["rows"], packed["columns"], packed["size"]) == (240, 960, (2000, 500))
  assert packed["areas"] == [499_999, 500_000, 1]
  small = unpack_labels(packed)
  assert (small[:, :480] == 0).all() and (small[:, 480:] == 1).all()
  assert packed["picture"].startswith("data:image/jpeg")
  assert len(packed["thumbnail"]) < len(packed["picture"]) / 10


def test_a_smaller_copy_of_the_image_changes_neither_size_nor_areas():
  hierarchy = random_hierarchy(0, shape=(300, 450))
  packed = explorer.pack(explorer.Entry("x.png", photograph((200, 300)), hierarchy))
  assert (packed["rows"], packed["columns"], packed["size"]) == (200, 300, (450, 300))
  assert packed["areas"] == np.bincount(hierarchy.segments.ravel()).tolist()
  rows, columns = (np.arange(200) * 2 + 1) * 3 // 4, (np.arange(300) * 2 + 1) * 3 // 4
  np.testing.assert_array_equal(unpack_labels(packed), hierarchy.segments[rows][:, columns])


def test_names_the_likeliest_classes():
  probabilities = np.array([0.1, 0.2, 0.05, 0.3, 0.15, 0.2], np.float32)
  hierarchy = Hierarchy(np.zeros((2, 2), np.int32), probabilities=probabilities)
  assert explorer.pack(entry_of(hierarchy, class_names="abcdef"))["classes"] == [
    ("d", 0.3),
    ("b", 0.2),
    ("f", 0.2),
    ("e", 0.15),
    ("a", 0.1),
  ]
  assert explorer.pack(entry_of(hierarchy))["classes"] == []


def test_refuses_what_does_not_fit():
  with pytest.raises(ValueError, match="at least one"):
    explorer.render([])
  with pytest.raises(ValueError, match="x.png: an image of"):
    explorer.pack(explorer.Entry("x.png", photograph((30, 40)), quarters()))
  with pytest.raises(ValueError, match="region classes"):
    explorer.pack(entry_of(quarters(), region_classes=[["a"] * 16]))
  classified = Hierarchy(np.zeros((2, 2), np.int32), probabilities=np.ones(2, np.float32))
  with pytest.raises(ValueError, match="3 names for 2 classes"):
    explorer.pack(entry_of(classified, class_names="abc"))


def test_writes_the_page_whole_or_not_at_all(tmp_path):
  packed = [explorer.pack(entry_of(quarters()))]
  path = explorer.write(tmp_path / "page.html", packed, title="a & b")
  assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
  assert path.read_text() == explorer.render(packed, title="a & b")
  with pytest.raises(ValueError):
    explorer.write(tmp_path / "none.html", [])
  with pytest.raises(UserError, match="page.html"):
    explorer.write(path / "page.html", packed)
  assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_text_from_outside_stays_text():
  page = explorer.render([explorer.pack(entry_of(quarters(), HOSTILE))], title=HOSTILE)
  assert len(re.findall("<script", page)) == 2 and len(re.findall("<img", page)) == 0
  assert f"<title>{html.escape(HOSTILE)}</title>" in page
  data = re.search(r'id="data">(.*?)</script>', page).group(1)
  assert json.loads(data)[0]["name"] == HOSTILE
