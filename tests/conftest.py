"""What every test runs under: four fake devices, a shared cache of compilations, fixed paths."""

import os
import tempfile

# Before jax is imported anywhere: four devices, so that sharding is real in every test, and the
# quickest compilation, since tests compile far more than they compute.
os.environ["XLA_FLAGS"] = " ".join(
  (
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=4",
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
  )
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# The processes of one test run, and those that tests start, compile nothing twice.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  compilations = tempfile.TemporaryDirectory(prefix="hseg_compilations_")
  os.environ["JAX_COMPILATION_CACHE_DIR"] = compilations.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import collections
import functools
import pathlib

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

TRIMMED = pathlib.Path(__file__).parent / "golden"

# The processes that tests start find configs/, which is no part of the package, as pytest does.
ROOT = str(pathlib.Path(__file__).parent.parent)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))


def pytest_collection_modifyitems(items):
  """Files with slow tests first: processes share by file, and the last file ends the run."""
  slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
  items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """The folder of shared data that is not part of the repository; skips where there is none."""
  folder = os.environ.get("HSEG_SHARED")
  if not folder or not pathlib.Path(folder).is_dir():
    pytest.skip("HSEG_SHARED names no folder of shared data")
  return pathlib.Path(folder)


@pytest.fixture(params=["trimmed", "full"])
def golden(request):
  """Loads arrays of the PyTorch reference by name: `golden("moco")`.

  "trimmed" are those of tests/golden, "full" those of $HSEG_SHARED/golden, which hold everything
  the reference computed and further files.
  """
  trimmed = request.param == "trimmed"
  folder = TRIMMED if trimmed else request.getfixturevalue("shared") / "golden"
  return functools.partial(_load, folder)


@pytest.fixture(scope="session")
def fullest_golden():
  """As `golden`, but only once: the full arrays where there are any, for tests that take long."""
  full = pathlib.Path(os.environ.get("HSEG_SHARED", "")) / "golden"
  return functools.partial(_load, full if full.is_dir() else TRIMMED)


def _load(folder: pathlib.Path, name: str) -> dict[str, np.ndarray]:
  path = folder / f"{name}.npz"
  path = path if path.exists() else folder / f"{name}_tiny.npz"
  if not path.exists():
    pytest.skip(f"{name} is not among the arrays in {folder}")
  with np.load(path) as arrays:
    return dict(arrays)
