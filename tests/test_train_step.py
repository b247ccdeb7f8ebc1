"""The step of training: compiled once, alike on any number of devices, and as it ever was."""

from typing import NamedTuple

import jax
import numpy as np
import pytest
import tiny_run

from hseg_jax import experiment, train
from hseg_jax.training import sharding
from hseg_jax.training import state as states


def setup(config, num_devices=4):
  """An experiment's first state, its step and its first batches, on so many devices."""
  e = experiment.setup(config.to_dict())
  mesh = sharding.make_mesh(jax.devices()[:num_devices])
  placement = sharding.replicated(mesh)
  batch = experiment.example_batch({**e.settings, "batch_size": 1})
  init = states.make_init(e.objective, e.tx, batch, ema=True)
  step = train.make_train_step(e.objective, e.tx, ema=0.9, placement=placement)
  batches = (sharding.to_global(b, mesh) for b in experiment.train_batches(e, 0))
  return states.create(init, 0, placement), step, batches


class FirstSteps(NamedTuple):
  """What one step gave, and how often the loss was traced in five."""

  loss: float
  grad_norm: float
  stats: dict
  before: dict
  after: states.TrainState
  num_traces: int


@pytest.fixture(scope="module", params=["supervised", "contrastive"])
def first_steps(request):
  """An objective's name, and its first steps on four devices and on one."""
  config = tiny_run.config(request.param)
  cls = type(experiment.setup(config.to_dict()).objective)
  original, traces, found = cls.__call__, [], {}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(cls, "__call__", lambda *a: traces.append(1) or original(*a))
    for num_devices in (4, 1):
      traces.clear()
      state, step, batches = setup(config, num_devices)
      before = jax.device_get(state.params)
      state, metrics = step(state, next(batches))
      target_stats = state.target and state.target["batch_stats"]
      stats = jax.device_get((state.batch_stats, target_stats))
      after = jax.device_get(state)
      for _ in range(4):
        state, _ = step(state, next(batches))
      found[num_devices] = FirstSteps(
        float(metrics["loss"]), float(metrics["grad_norm"]), stats, before, after, len(traces)
      )
  return request.param, found


def test_four_devices_equal_one(first_steps):
  _, found = first_steps
  np.testing.assert_allclose(found[4].loss, found[1].loss, rtol=1e-5)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
  jax.tree.map(close, found[4].stats, found[1].stats)


def test_five_steps_trace_once(first_steps):
  _, found = first_steps
  assert found[4].num_traces == found[1].num_traces == 1


def test_the_average_follows_the_parameters(first_steps):
  _, found = first_steps
  before, after = found[1].before, found[1].after
  wanted = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, before, after.params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.ema, wanted)
  moved = jax.tree.map(lambda old, new: bool(np.any(old != new)), before, after.params)
  assert sum(jax.tree.leaves(moved)) > 0.7 * len(jax.tree.leaves(moved))


# Loss and gradient norm of the first step of each objective, on one device.
GOLDEN = {"supervised": (3.57519, 136.241), "contrastive": (2.78071, 1241.71)}


def test_metrics_after_one_step_are_as_ever(first_steps):
  objective, found = first_steps
  metrics = found[1].loss, found[1].grad_norm
  np.testing.assert_allclose(
    metrics,
    GOLDEN[objective],
    rtol=5e-3,  # the gradient of contrastive learning amplifies rounding
    err_msg=f"""
The first step of the {objective} objective no longer gives what it gave: {metrics}. If you meant to
change data, model, initialisation or loss, put these numbers into GOLDEN and say why in the commit;
if you did not, you have found a mistake before a long run did.""",
  )


def test_options_of_the_compiler_reach_it(monkeypatch):
  given = lambda **options: {f"no_such_option_{name}": value for name, value in options.items()}
  monkeypatch.setattr(train.compiler_options, "for_cpu", given)
  state, step, batches = setup(tiny_run.config("supervised"), 1)
  batch = next(batches)
  with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option_xla_cpu_experimental_ynn"):
    step(state, batch)
