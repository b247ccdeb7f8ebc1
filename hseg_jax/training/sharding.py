"""Where arrays live: the only file that builds a mesh.

Training is data parallel: batches are cut along the mesh's one axis, everything else is
replicated. Code is written for the global batch and the compiler cuts it.
"""

import contextlib
import math
import os
import socket
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hseg_jax.errors import UserError
from hseg_jax.processes import count_cores

AXIS = "data"
_A_YEAR = 365 * 24 * 3600


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return probe.getsockname()[1]


def _from_environment(name: str) -> int | None:
  value = os.environ.get(name)
  if value is not None and not value.isdecimal():
    raise UserError(f"The environment variable {name} is {value!r}; it must be a number.")
  return None if value is None else int(value)


def make_cores_devices(batch_size: int) -> None:
  """Makes each CPU core a device, as far as a batch divides evenly; for inference, where nothing
  waits for the others. Programs on one device leave cores idle in what XLA does on one.

  Comes before anything that starts a backend; after that nothing changes, nor where the user has
  said how many there are (`JAX_NUM_CPU_DEVICES`, or `XLA_FLAGS`).
  """
  flag = "xla_force_host_platform_device_count"
  if flag in os.environ.get("XLA_FLAGS", "") or jax.config.jax_num_cpu_devices > 0:
    return
  with contextlib.suppress(RuntimeError):
    jax.config.update("jax_num_cpu_devices", math.gcd(batch_size, count_cores()))


def initialize_distributed() -> None:
  """Joins the processes of a run; must come before anything that starts a backend.

  On a cluster that jax knows (Slurm, Cloud TPU, GKE, Open MPI) it finds the others by itself;
  hosts started by hand name themselves by `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
  `JAX_PROCESS_ID`. A lone machine becomes a cluster of one: only then does SIGTERM lead to a
  saved step.

  Raises:
    UserError: one of these variables is no number.
  """
  num_processes = _from_environment("JAX_NUM_PROCESSES")
  try:
    jax.distributed.initialize(
      num_processes=num_processes, process_id=_from_environment("JAX_PROCESS_ID")
    )
  except ValueError as error:
    # The one thing jax says where it found no cluster. Every other error means a broken cluster.
    if num_processes is not None or "coordinator_address should be defined" not in str(error):
      raise
    jax.distributed.initialize(
      f"localhost:{_free_port()}",
      num_processes=1,
      process_id=0,
      heartbeat_timeout_seconds=_A_YEAR,  # a machine that slept is to go on
    )


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh of one axis over `devices` (default: all devices of all processes)."""
  devices = jax.devices() if devices is None else devices
  # Auto, not jax's default Explicit, under which segment and gather operations fail to broadcast.
  return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
  """The first dimension is cut over the devices."""
  return NamedSharding(mesh, PartitionSpec(AXIS))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
  """Raises `UserError` where the devices cannot share a batch evenly."""
  if batch_size % mesh.size:
    raise UserError(
      f"batch_size {batch_size} cannot be shared by {mesh.size} devices; choose a multiple of it."
    )


def to_global(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Puts this host's slice of a batch `[b / hosts, ...]` on its devices.

  Returns:
    Global arrays `[b, ...]`, cut along their first dimension.
  """
  sharding = batch_sharded(mesh)
  # This transfer is meant; with many processes jax takes it for an oversight.
  with jax.transfer_guard_host_to_device("allow"):
    return {
      name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()
    }
