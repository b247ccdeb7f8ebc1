"""Which images arguments stand for, their names, and their label maps."""

import pathlib

import pytest

from hseg_jax import inputs
from hseg_jax.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
  for name in ("a/cat.jpg", "a/more/dog.png", "b/cat.png", "b/Cat.jpg", "b/ant.jpg", "c/x.txt"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  monkeypatch.chdir(tmp_path)
  return tmp_path


def names(*arguments):
  return {str(each.path): each.name for each in inputs.find(arguments)}


def test_files_folders_and_patterns(folder):
  assert names("b/ant.jpg", "c/x.txt") == {"b/ant.jpg": "ant", "c/x.txt": "x"}
  assert names("a") == {"a/cat.jpg": "cat", "a/more/dog.png": "more/dog"}
  assert names("a/**/*.png", "b/a*") == {"a/more/dog.png": "dog", "b/ant.jpg": "ant"}
  assert names(pathlib.Path("b/ant.jpg")) == {"b/ant.jpg": "ant"}
  (folder / "b/[1].jpg").touch()
  assert names("b/[1].jpg") == {"b/[1].jpg": "[1]"}


def test_images_are_taken_once_in_the_order_given(folder):
  found = names("b/ant.jpg", "a", folder / "b" / "ant.jpg", "a/cat.jpg")
  assert list(found.values()) == ["ant", "cat", "more/dog"]
  (folder / "a/again").symlink_to(folder / "a")  # a folder within itself
  (folder / "a/same.jpg").symlink_to(folder / "a/cat.jpg")
  assert len(names("a")) == 2


def test_no_two_images_share_a_name(folder):
  assert names("b") == {"b/Cat.jpg": "Cat.jpg", "b/ant.jpg": "ant", "b/cat.png": "cat.png"}
  found = names("a/cat.jpg", "b/Cat.jpg", "b/cat.png")
  assert list(found.values()) == ["cat.jpg", "Cat.jpg-2", "cat.png"]
  (folder / "a/cat.jpg-2.bmp").touch()
  assert list(names("a/cat.jpg", "a/cat.jpg-2.bmp", "b/Cat.jpg").values()) == [
    "cat.jpg", "cat.jpg-2", "Cat.jpg-3",
  ]  # fmt: skip


@pytest.mark.parametrize("argument", ["none.jpg", "none/*.jpg", "c"])
def test_what_stands_for_no_image_is_named(folder, argument):
  with pytest.raises(UserError) as error:
    inputs.find(["b/ant.jpg", argument])
  assert argument in str(error.value)


def test_label_maps_lie_under_the_images_names(folder):
  found = inputs.find(["a"])
  for name in ("cat.npz", "cat.png", "more/dog.npy"):
    path = folder / "labels" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  maps = [str(each.labels) for each in inputs.with_labels(found, "labels")]
  assert maps == ["labels/cat.npz", "labels/more/dog.npy"]
  with pytest.raises(UserError, match="a holds no superpixels of b/ant.jpg: .* ant.npz"):
    inputs.with_labels(inputs.find(["b/ant.jpg"]), "a")
