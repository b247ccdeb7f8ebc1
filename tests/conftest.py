"""What every test runs under: four fake devices, no silent rank promotion, fixed paths."""

import os

# Before jax is imported anywhere: four devices, so that sharding is real in every test.
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """The folder of shared data that is not part of the repository; skips where there is none."""
  folder = os.environ.get("HSEG_SHARED")
  if not folder or not pathlib.Path(folder).is_dir():
    pytest.skip("HSEG_SHARED names no folder of shared data")
  return pathlib.Path(folder)
