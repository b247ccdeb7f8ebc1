"""Images are called alike by whatever file speaks of them."""

import pathlib

import pytest

from hseg_jax.errors import UserError
from hseg_jax.scoring import image_names


def test_names_go_without_folders_and_known_endings():
  files = ["val/n1/a.JPEG", pathlib.PurePath("b.tar.png"), "100075", "photo.v2", "c.npz"]
  assert list(image_names.name(files).values()) == ["a", "b.tar", "100075", "photo.v2", "c"]


def test_all_names_keep_their_folders_where_two_would_be_alike():
  files = ["x/a.png", "y/a.png", "b.png"]
  assert list(image_names.name(files).values()) == ["x/a", "y/a", "b"]
  assert image_names.name(["x/a.png", "x/a.png"]) == {"x/a.png": "a"}


def test_listing_leaves_out_what_is_hidden_or_ends_otherwise(tmp_path):
  for name in ("b.PNG", "sub/a.png", ".hidden.png", ".git/c.png", "d.npy.partial", "e.txt"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  found = [str(file) for file in image_names.listing(tmp_path, (".png", ".npy"))]
  assert found == ["b.PNG", "sub/a.png"]
  assert image_names.table(tmp_path, (".png", ".npy")) == {
    "b": str(tmp_path / "b.PNG"),
    "a": str(tmp_path / "sub/a.png"),
  }
  with pytest.raises(UserError, match="There is no folder .*e.txt"):
    image_names.listing(tmp_path / "e.txt", (".png",))
