"""Saving and restoring a run: the only file that imports orbax.

A run's checkpoints are the folders `WORKDIR/checkpoints/STEP`.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from hseg_jax import files
from hseg_jax.errors import UserError
from hseg_jax.training.state import TrainState

PyTree = Any
_ITEM = "state"


def _folder(workdir: str | pathlib.Path) -> pathlib.Path:
  return pathlib.Path(workdir).absolute() / "checkpoints"


def _describe(tree: PyTree) -> dict[str, tuple[int, ...]]:
  """Dotted name -> shape of every leaf, the same for a state and for what a checkpoint lists."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  name = lambda key: str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))
  return {".".join(map(name, path)): tuple(leaf.shape) for path, leaf in leaves}


def _mismatch(saved: PyTree, wanted: PyTree) -> str | None:
  """The first difference between two states in words; None where their shapes agree."""
  saved, wanted = _describe(saved), _describe(wanted)
  for name in wanted:
    if name not in saved:
      return f"it has no {name}"
    if saved[name] != wanted[name]:
      return f"its {name} has shape {saved[name]}, the run's has {wanted[name]}"
  surplus = sorted(set(saved) - set(wanted))
  return f"it has {surplus[0]}, the run has none" if surplus else None


def _claim(folder: pathlib.Path) -> int:
  """Keeps other runs out of a folder until the descriptor is closed or this process is gone."""
  files.make_folder(folder)
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    os.close(descriptor)
    raise UserError(
      f"Another process trains in {folder.parent}; wait for its end or choose a new workdir."
    ) from error
  except OSError:
    pass  # a file system without locks
  return descriptor


class Checkpointer:
  """Saves every so many steps and on preemption, keeps the latest few, restores the newest.

  Attributes:
    folder: `WORKDIR/checkpoints`.
  """

  def __init__(
    self,
    workdir: str | pathlib.Path,
    *,
    every_steps: int = 1,
    keep: int = 1,
    read_only: bool = False,
  ):
    """Opens `workdir/checkpoints`, creating it unless it is only read.

    Args:
      workdir: the run's folder.
      every_steps: a checkpoint is due at every multiple of it.
      keep: how many of the latest checkpoints stay.
      read_only: another run's folder: nothing in it is touched.

    Raises:
      UserError: another process trains there.
    """
    self._read_only = read_only
    self.folder = _folder(workdir)
    # Opening it removes what is half written: by an earlier process, never by a living one.
    is_owner = not read_only and jax.process_index() == 0
    self._claim = _claim(self.folder) if is_owner else None
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        save_decision_policy=checkpoint_managers.AnySavePolicy(
          [
            checkpoint_managers.FixedIntervalPolicy(every_steps),
            checkpoint_managers.PreemptionCheckpointingPolicy(),
          ]
        ),
        preservation_policy=checkpoint_managers.LatestN(keep),
        cleanup_tmp_directories=True,
        create=not read_only,
        read_only=read_only,
      ),
      item_handlers={_ITEM: ocp.StandardCheckpointHandler()},
    )

  @property
  def latest_step(self) -> int | None:
    """The newest step on disk, None where there is none."""
    return self._manager.latest_step()

  def is_due(self, step: int) -> bool:
    """Whether `step` is to be saved: its turn has come, or the machine is about to be taken."""
    return self._manager.should_save(step)

  def is_preempted(self, step: int) -> bool:
    """Whether the machine is about to be taken; every process gets the same answer."""
    return self._manager.reached_preemption(step)

  def save(self, step: int, state: TrainState) -> None:
    """Copies the state off the devices and writes it in the background."""
    arguments = ocp.args.Composite(**{_ITEM: ocp.args.StandardSave(state)})
    self._manager.save(step, args=arguments, force=True)

  def restore(self, wanted: TrainState) -> TrainState | None:
    """Restores the newest readable checkpoint.

    Unreadable ones (a machine died while its disk was full, say) are passed over with a warning,
    and put aside once an older one turned out to be readable.

    Args:
      wanted: the state's shapes with shardings; checkpoints move between numbers of devices.

    Returns:
      The state, None where there is no checkpoint.

    Raises:
      UserError: the checkpoint is another model's, or none of the checkpoints is readable.
    """
    unreadable = []
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        saved = self._manager.item_metadata(step)[_ITEM].tree
        problem = _mismatch(saved, wanted)
        if problem is None:
          arguments = ocp.args.Composite(**{_ITEM: ocp.args.StandardRestore(wanted)})
          state = self._manager.restore(step, args=arguments)[_ITEM]
      except Exception as error:  # orbax and its storage have no common class for broken files
        _warn_unreadable(self.folder / str(step), error)
        unreadable.append(step)
        continue
      if problem is not None:
        raise UserError(f"Checkpoint {self.folder / str(step)} does not fit this run: {problem}.")
      if unreadable and not self._read_only:
        self._put_aside(unreadable)
      return state
    if unreadable:
      raise UserError(f"None of the checkpoints in {self.folder} can be read; take a new workdir.")
    return None

  def _put_aside(self, steps: list[int]) -> None:
    multihost_utils.sync_global_devices("unreadable")
    for step in steps if jax.process_index() == 0 else ():
      aside = self.folder / f"{step}.unreadable"
      shutil.rmtree(aside, ignore_errors=True)
      (self.folder / str(step)).rename(aside)
    multihost_utils.sync_global_devices("put_aside")
    self._manager.reload()

  def close(self) -> None:
    """Waits for what is still being written."""
    self._manager.wait_until_finished()
    self._manager.close()
    if self._claim is not None:
      os.close(self._claim)


def _warn_unreadable(path: pathlib.Path, error: Exception) -> None:
  reason = type(error).__name__
  logging.warning("Checkpoint %s cannot be read (%s) and is passed over.", path, reason)


def restore_from(workdir: str | pathlib.Path, wanted: TrainState) -> TrainState:
  """Restores the newest readable checkpoint of another run, whose folder stays untouched.

  Raises:
    UserError: there is none, or it is another model's.
  """
  state = None
  if _folder(workdir).is_dir():
    with contextlib.closing(Checkpointer(workdir, read_only=True)) as checkpointer:
      state = checkpointer.restore(wanted)
  if state is None:
    raise UserError(f"{workdir} holds no checkpoint to resume from.")
  return state


def load(workdir: str | pathlib.Path, step: int | None = None) -> dict[str, Any]:
  """Reads a whole state as nested dicts of numpy arrays, on any machine.

  Args:
    workdir: the run's folder.
    step: which checkpoint; the newest readable one where None.

  Returns:
    A dict with the fields of `TrainState`.

  Raises:
    UserError: there is no such checkpoint, or it cannot be read.
  """
  folder = _folder(workdir)
  steps = sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())
  if not steps or (step is not None and step not in steps):
    wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
    raise UserError(f"{workdir} holds {wanted}; its steps: {steps or 'none'}.")
  with ocp.CheckpointManager(
    folder,
    options=ocp.CheckpointManagerOptions(read_only=True),
    item_handlers={_ITEM: ocp.PyTreeCheckpointHandler()},
  ) as manager:
    for candidate in reversed(steps) if step is None else [step]:
      try:
        tree = manager.item_metadata(candidate)[_ITEM].tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        arguments = ocp.args.Composite(**{_ITEM: ocp.args.PyTreeRestore(restore_args=as_numpy)})
        return manager.restore(candidate, args=arguments)[_ITEM]
      except Exception as error:  # as in `Checkpointer.restore`
        _warn_unreadable(folder / str(candidate), error)
  raise UserError(f"None of the checkpoints asked for in {folder} can be read.")
