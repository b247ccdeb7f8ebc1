"""The training loop. `main` is what the command line calls; the rest works in a notebook."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hseg_jax import augmentation, compiler_options, files
from hseg_jax import experiment as experiments
from hseg_jax.errors import UserError
from hseg_jax.evaluators import run_all
from hseg_jax.experiment import Experiment
from hseg_jax.interop import exported
from hseg_jax.models import may_lack
from hseg_jax.training import checkpoint, optim, sharding
from hseg_jax.training import state as states
from hseg_jax.training import workdir as workdirs
from hseg_jax.training.recorder import Recorder, print_once
from hseg_jax.training.state import TrainState
from hseg_jax.viz import report

PyTree = Any

# XLA of jax 0.10 hands products, sums and convolutions on CPUs to a library called YNNPACK; its own
# convolutions are faster.
_OPTIONS = {
  "xla_cpu_experimental_ynn_fusion_type": (
    "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
  ),
}


def main(config: Any, workdir: str | pathlib.Path) -> None:
  """Joins the processes of the run, then trains and evaluates."""
  # First of all: nothing may have started a backend before it.
  sharding.initialize_distributed()
  train_and_evaluate(config, workdir)


def make_train_step(
  loss_fn: Callable,
  tx: optax.GradientTransformation,
  *,
  ema: float,
  placement: jax.sharding.Sharding | None = None,
) -> Callable[[TrainState, PyTree], tuple[TrainState, dict[str, jax.Array]]]:
  """The one step that serves every objective, compiled.

  Args:
    loss_fn: `(params, state, batch, rng) -> (loss, (new_state, metrics))`.
    tx: the optimizer.
    ema: how much of the average of the parameters stays at each step, where the state has one.
    placement: of the new state and the metrics; None leaves it to the compiler.

  Returns:
    `step(state, batch) -> (state, metrics)`; the old state's buffers are given away. The metrics
    hold `loss`, `grad_norm` before clipping and `param_norm` after the update.
  """

  def train_step(state: TrainState, batch: PyTree):
    rng = jax.random.fold_in(state.rng, state.step)
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, (new_state, metrics)), grads = grad_fn(state.params, state, batch, rng)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.ema
    if average is not None:
      average = jax.tree.map(lambda old, new: ema * old + (1.0 - ema) * new, average, params)
    new_state = new_state.replace(
      step=state.step + 1, params=params, opt_state=opt_state, ema=average
    )
    norms = {"grad_norm": optim.global_norm(grads), "param_norm": optim.global_norm(params)}
    return new_state, {"loss": loss, **norms, **metrics}

  return jax.jit(
    train_step,
    donate_argnums=0,
    out_shardings=placement,
    compiler_options=compiler_options.for_cpu(**_OPTIONS),
  )


def restore_or_create(experiment: Experiment, checkpointer: checkpoint.Checkpointer) -> TrainState:
  """The state to start from: own checkpoint > `resume` > `init_from` > scratch.

  Raises:
    UserError: what is to be restored is another model's or another experiment's.
  """
  settings = experiment.settings
  init = states.make_init(
    experiment.objective,
    experiment.tx,
    experiments.example_batch({**settings, "batch_size": 1}),
    ema=settings["optimizer"]["ema"] > 0,
  )
  placement = sharding.replicated(experiment.mesh)
  wanted = states.abstract(init, placement)
  state = checkpointer.restore(wanted)
  if state is not None:
    return state
  if settings["resume"]:
    workdirs.check_config(
      settings["resume"], settings, allow_change=settings["allow_config_change"]
    )
    return checkpoint.restore_from(settings["resume"], wanted)
  state = states.create(init, settings["seed"], placement)
  if settings["init_from"]:
    flat, _ = exported.load_exported(settings["init_from"])
    state = initialize_from(state, experiment.objective, flat, skip=settings["init_from_skip"])
  return state


def initialize_from(
  state: TrainState, objective: Any, weights: Mapping[str, np.ndarray], skip: Sequence[str]
) -> TrainState:
  """Puts exported weights in the place of the model's own.

  Args:
    state: a first state.
    objective: the objective it belongs to.
    weights: names such as "params/head/kernel" -> arrays.
    skip: top-level parts of the model that keep what they have, such as "head".

  Raises:
    UserError: a tensor is missing, left over or has another shape, or `skip` names no part.
  """
  variables = objective.model_variables(state.params, state.batch_stats)
  part = lambda name: f"{name}/".split("/")[1]
  parts = {part(name) for name in weights} | {name for tree in variables.values() for name in tree}
  if unknown := set(skip) - parts:
    names = ", ".join(sorted(parts))
    raise UserError(f"init_from_skip names {min(unknown)!r}; the parts are {names}.")
  weights = {name: w for name, w in weights.items() if part(name) not in skip}

  def take(path: tuple, leaf: jax.Array) -> jax.Array:
    name = "/".join(key.key for key in path)
    if path[1].key in skip:
      return leaf
    if name not in weights and may_lack(name):
      return leaf
    if name not in weights:
      raise UserError(f"init_from has no {name}; name the part in init_from_skip to start it anew.")
    value = weights.pop(name)
    if value.shape != leaf.shape:
      raise UserError(
        f"init_from has {name} of shape {value.shape}, the model's is {leaf.shape}; name the part "
        "in init_from_skip to start it anew."
      )
    return jax.device_put(value.astype(leaf.dtype), leaf.sharding)

  variables = jax.tree_util.tree_map_with_path(take, variables)
  weights = {name: w for name, w in weights.items() if not may_lack(name)}
  if weights:
    raise UserError(f"init_from has {min(weights)}, which the model has not; see init_from_skip.")
  state = objective.with_model(state, variables)
  # A copy: the step gives its state's buffers away, each only once.
  return state if state.ema is None else state.replace(ema=jax.tree.map(jnp.copy, state.params))


def train_and_evaluate(config: Any, workdir: str | pathlib.Path) -> TrainState:
  """Trains as the config says, going on where an earlier call in the same folder stopped.

  Args:
    config: a ConfigDict, or the same as nested dicts.
    workdir: gets `config.json`, `metrics.jsonl`, `checkpoints/STEP`, `summaries/` and, at the end,
      `report.html`.

  Returns:
    The final state.

  Raises:
    UserError: a mistake in the config, missing data, another experiment's `workdir`, or a loss
      that is not finite.
  """
  experiment = experiments.setup(config if isinstance(config, dict) else config.to_dict())
  settings = experiment.settings
  evaluators = experiments.make_evaluators(experiment)
  workdirs.check_config(workdir, settings, allow_change=settings["allow_config_change"])
  files.make_folder(workdir)
  checkpointer = checkpoint.Checkpointer(workdir, **settings["checkpoint"])
  try:
    state = restore_or_create(experiment, checkpointer)
    start_step = int(jax.device_get(state.step))
    # A step restored from this folder was evaluated and saved by the run that reached it.
    is_done = checkpointer.latest_step == start_step
    if start_step > experiment.num_steps or (is_done and start_step == experiment.num_steps):
      print_once(f"The run in {workdir} is finished: it has made {start_step} steps.")
      return state  # and leaves the config that made them
    workdirs.write_config(workdir, settings)
    writer = workdirs.MetricWriter(workdir, start_step=start_step)
    try:
      return loop(experiment, state, start_step, is_done, checkpointer, writer, evaluators)
    finally:
      writer.close()
  finally:
    checkpointer.close()


def evaluate(
  experiment: Experiment,
  state: TrainState,
  step: int,
  evaluators: Mapping[str, Any],
  writer: workdirs.MetricWriter,
) -> None:
  """Runs the evaluators, writes what they found and prints the coarser metrics."""
  variables = experiment.objective.model_variables(state.eval_params, state.batch_stats)
  metrics, figures = run_all(evaluators, variables)
  writer.write(step, metrics)
  writer.write_figures(step, figures)
  # The finer metrics, such as val/hierarchy/level_1/covering, are for the files.
  shown = [f"{name} {value:.4f}" for name, value in metrics.items() if name.count("/") == 1]
  print_once("  ".join([f"evaluation at step {step}", *shown]))


def write_report(
  experiment: Experiment,
  state: TrainState,
  workdir: pathlib.Path,
  evaluators: Mapping[str, Any],
) -> None:
  """Writes `workdir/report.html` with the pictures of the evaluators that have examples."""
  examples = [e for one in evaluators.values() for e in getattr(one, "examples", ())]
  devices = jax.devices()
  variables = experiment.objective.model_variables(state.params, state.batch_stats)
  facts = experiments.describe_model(experiment, variables)
  facts["commit"] = workdirs.commit() or "unknown"
  facts["devices"] = f"{len(devices)} {devices[0].device_kind}"
  print_once(f"report in {report.write(workdir, examples=examples, facts=facts)}")


def loop(
  experiment: Experiment,
  state: TrainState,
  start_step: int,
  is_done: bool,
  checkpointer: checkpoint.Checkpointer,
  writer: workdirs.MetricWriter,
  evaluators: Mapping[str, Any],
) -> TrainState:
  """Evaluate if due, save if due, next batch, step, write the previous step's metrics.

  Args:
    experiment: what to do.
    state: the state at `start_step`; its buffers are given away.
    start_step: where to begin.
    is_done: whether `start_step` itself is evaluated and saved already.
    checkpointer: saves.
    writer: of the metrics.
    evaluators: by name, see `experiment.make_evaluators`.

  Returns:
    The state at the last step, or at the step at which the machine was taken away.
  """
  settings, num_steps = experiment.settings, experiment.num_steps
  train_step = make_train_step(
    experiment.objective,
    experiment.tx,
    ema=settings["optimizer"]["ema"],
    placement=sharding.replicated(experiment.mesh),
  )
  recorder = Recorder(
    writer,
    settings,
    num_steps=num_steps,
    schedule=experiment.schedule,
    checkpoints=checkpointer.folder,
  )
  batches = experiments.train_batches(experiment, start_step)
  augment = augmentation.make(
    **augmentation.options(settings), placement=sharding.batch_sharded(experiment.mesh)
  )

  for step in range(start_step, num_steps + 1):
    is_new, is_last = step > start_step or not is_done, step == num_steps
    is_evaluated = is_new and (is_last or step % settings["eval_every_steps"] == 0)
    is_saved = is_new and (is_last or checkpointer.is_due(step))
    if is_evaluated or is_saved:
      recorder.flush()  # what is saved must be known to be finite
    if is_evaluated:
      evaluate(experiment, state, step, evaluators, writer)
    # Before the last checkpoint, whose presence says that there is nothing left to do.
    if is_evaluated and is_last and jax.process_index() == 0:
      write_report(experiment, state, checkpointer.folder.parent, evaluators)
    if is_saved:
      checkpointer.save(step, state)
    if is_last or checkpointer.is_preempted(step):
      break
    if is_evaluated or is_saved:
      recorder.stop_clock()
    with jax.transfer_guard("disallow"):
      batch = augment(sharding.to_global(next(batches), experiment.mesh))
      state, metrics = train_step(state, batch)
    recorder.push(step + 1, metrics)
  if step < num_steps:
    print_once(f"Preempted at step {step}, which is saved; the same command goes on from there.")
  return state
