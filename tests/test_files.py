"""Results on disk: whole or not at all, and what cannot be written is named."""

import pytest

from hseg_jax import files
from hseg_jax.errors import UserError


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
  files.make_folder(tmp_path / "a" / "b")
  files.make_folder(tmp_path / "a" / "b")
  assert not list((tmp_path / "a" / "b").iterdir())
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match="file cannot be written: "):
    files.make_folder(tmp_path / "file")


def test_files_are_there_whole_or_not_at_all(tmp_path):
  path = tmp_path / "folder" / "a.txt"
  with files.whole(path) as partial:
    partial.write_text("old")
    assert not path.exists()
  with pytest.raises(ZeroDivisionError), files.whole(path) as partial:
    partial.write_text("new")
    raise ZeroDivisionError
  assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
  with pytest.raises(UserError, match="a.txt cannot be written: No space left"):
    with files.whole(path):
      raise OSError(28, "No space left on device")
  with pytest.raises(UserError, match="a.txt/b cannot be written: "), files.whole(path / "b"):
    pass
