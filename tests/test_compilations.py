"""Tests of where compiled programs are kept."""

import pathlib

import pytest

from hseg_jax import compilations


def test_in_the_users_folder_of_caches(tmp_path):
  environment = {"XDG_CACHE_HOME": str(tmp_path)}
  compilations.keep(environment)
  folder = pathlib.Path(environment["JAX_COMPILATION_CACHE_DIR"])
  assert folder == tmp_path / "hseg_jax" / "compilations" and folder.is_dir()


def test_in_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  compilations.keep(environment := {"XDG_CACHE_HOME": ""})
  wanted = tmp_path / ".cache" / "hseg_jax" / "compilations"
  assert environment["JAX_COMPILATION_CACHE_DIR"] == str(wanted)


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
