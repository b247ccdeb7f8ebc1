"""Tests of where compiled programs are kept."""

import pathlib

import pytest

from hseg_jax import compilations


def test_in_the_users_folder_of_caches(tmp_path):
  environment = {"XDG_CACHE_HOME": str(tmp_path)}
  compilations.keep(environment)
  folder = pathlib.Path(environment["JAX_COMPILATION_CACHE_DIR"])
  assert folder.parent == tmp_path / "hseg_jax" / "compilations" and folder.is_dir()


def test_in_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  compilations.keep(environment := {"XDG_CACHE_HOME": ""})
  wanted = tmp_path / ".cache" / "hseg_jax" / "compilations"
  folder = pathlib.Path(environment["JAX_COMPILATION_CACHE_DIR"])
  assert folder.parent == wanted


def test_processors_that_differ_share_nothing(tmp_path, monkeypatch):
  folders = set()
  for flags in ("flags: avx2", "flags: avx2 avx512f"):
    monkeypatch.setattr(pathlib.Path, "read_text", lambda path, flags=flags: f"cores: 2\n{flags}")
    compilations.keep(environment := {"XDG_CACHE_HOME": str(tmp_path)})
    folders.add(environment["JAX_COMPILATION_CACHE_DIR"])
  assert len(folders) == 2


@pytest.mark.parametrize("chosen", ["", "/somewhere"])
def test_what_was_decided_stays(tmp_path, chosen):
  environment = {"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": chosen}
  compilations.keep(environment)
  assert environment["JAX_COMPILATION_CACHE_DIR"] == chosen and not list(tmp_path.iterdir())


def test_nowhere_without_a_folder_to_write(tmp_path):
  (tmp_path / "file").write_text("")
  environment = {"XDG_CACHE_HOME": str(tmp_path / "file")}
  compilations.keep(environment)
  assert "JAX_COMPILATION_CACHE_DIR" not in environment
