"""Meshes, global arrays, and two processes that train as one."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny_run
from jax.sharding import AxisType, PartitionSpec

from hseg_jax import train
from hseg_jax.errors import UserError
from hseg_jax.training import checkpoint, sharding

TESTS = pathlib.Path(__file__).parent
_FOUR = "--xla_force_host_platform_device_count=4"


def test_the_mesh_has_one_automatic_axis_over_all_devices():
  mesh = sharding.make_mesh()
  assert mesh.size == len(jax.devices()) == 4
  assert mesh.axis_types == (AxisType.Auto,)
  assert sharding.replicated(mesh).is_fully_replicated
  assert sharding.batch_sharded(mesh).spec == PartitionSpec(mesh.axis_names[0])


def test_a_host_batch_becomes_a_global_one():
  mesh = sharding.make_mesh()
  image = np.arange(8 * 3, dtype=np.uint8).reshape(8, 3)
  with jax.transfer_guard("disallow"):
    (found,) = sharding.to_global({"image": image}, mesh).values()
  assert found.sharding == sharding.batch_sharded(mesh)
  assert [shard.data.shape for shard in found.addressable_shards] == [(2, 3)] * 4
  np.testing.assert_array_equal(found, image)


def test_a_batch_that_the_devices_cannot_share_is_refused():
  sharding.check_batch_size(8, sharding.make_mesh())
  with pytest.raises(UserError, match="batch_size 6 cannot be shared by 4 devices"):
    sharding.check_batch_size(6, sharding.make_mesh())


@pytest.mark.parametrize(
  ("batch_size", "environment", "devices"),
  [(6, {}, 2), (3, {}, 1), (6, {"JAX_NUM_CPU_DEVICES": "3"}, 3), (6, {"XLA_FLAGS": _FOUR}, 4)],
)
def test_cores_become_devices_unless_told_otherwise(batch_size, environment, devices):
  program = (
    "import os; os.sched_getaffinity = lambda pid: {0, 1}\n"
    "import jax; from hseg_jax.training import sharding\n"
    f"sharding.make_cores_devices({batch_size}); print(jax.device_count())\n"
    f"sharding.make_cores_devices(1); print(jax.device_count())"
  )
  inherited = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
  command = [sys.executable, "-c", program]
  found = subprocess.run(
    command, env=inherited | environment, check=True, capture_output=True, text=True
  ).stdout
  assert found.split() == [str(devices)] * 2


def calls(monkeypatch, error):
  """What `jax.distributed.initialize` is called with when its first call raises `error`."""
  found = []

  def initialize(*args, **kwargs):
    found.append((args, kwargs))
    if len(found) == 1 and error:
      raise error

  monkeypatch.setattr(jax.distributed, "initialize", initialize)
  return found


def test_a_lone_machine_becomes_a_cluster_of_one(monkeypatch):
  found = calls(monkeypatch, ValueError("coordinator_address should be defined."))
  sharding.initialize_distributed()
  (address,), options = found[1]
  patience = options.pop("heartbeat_timeout_seconds")
  assert address.startswith("localhost:") and options == {"num_processes": 1, "process_id": 0}
  assert patience > 30 * 24 * 3600  # a suspended process must not take itself for dead


def test_the_errors_of_a_cluster_are_not_swallowed(monkeypatch):
  calls(monkeypatch, ValueError("Number of processes must be defined."))
  with pytest.raises(ValueError, match="Number of processes"):
    sharding.initialize_distributed()
  monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
  monkeypatch.setenv("JAX_PROCESS_ID", "1")
  found = calls(monkeypatch, ValueError("coordinator_address should be defined."))
  with pytest.raises(ValueError, match="coordinator_address"):
    sharding.initialize_distributed()
  assert found == [((), {"num_processes": 2, "process_id": 1})]


def test_a_number_of_processes_that_is_none_is_named(monkeypatch):
  monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
  with pytest.raises(UserError, match="JAX_NUM_PROCESSES is 'two'"):
    sharding.initialize_distributed()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
  script = """
import sys
import tiny_run
from hseg_jax import train

train.main(tiny_run.config("supervised", data__num_workers=1), sys.argv[1])
"""
  # The workers of the input pipeline import the script again: it must be a file with a guard.
  path = tmp_path / "two.py"
  path.write_text(script.replace("\ntrain.main", "\nif __name__ == '__main__':\n  train.main"))
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    address = f"localhost:{probe.getsockname()[1]}"
  processes = []
  for i in range(2):
    environment = os.environ | {
      "JAX_COORDINATOR_ADDRESS": address,
      "JAX_NUM_PROCESSES": "2",
      "JAX_PROCESS_ID": str(i),
      "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
      "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=2"),
    }
    command = [sys.executable, str(path), str(tmp_path / "two")]
    processes.append(subprocess.Popen(command, env=environment))
  assert [process.wait(timeout=300) for process in processes] == [0, 0]

  train.train_and_evaluate(tiny_run.config("supervised"), tmp_path / "one")
  found, wanted = (checkpoint.load(tmp_path / name, 2) for name in ("two", "one"))
  assert_close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
  jax.tree.map(assert_close, found["batch_stats"], wanted["batch_stats"])
  lines = [
    [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    for name in ("two", "one")
  ]
  assert [line["step"] for line in lines[0]] == [0, 1, 2, 3, 4, 4]
  np.testing.assert_allclose(*(run[1]["train/loss"] for run in lines), rtol=1e-5)
  np.testing.assert_allclose(*(run[0]["val/loss"] for run in lines), rtol=1e-5)
