"""The state of a training run: one pytree for every objective."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

PyTree = Any
Leaf = Any  # an array, or what stands for one in a tree of shapes, shardings or masks


class TrainState(struct.PyTreeNode):
  """Everything a checkpoint holds; the next step is a pure function of it.

  Attributes:
    step: int32 `[]`, the number of updates made so far.
    params: trained and frozen parameters, float32.
    batch_stats: running statistics of the batch normalisations.
    opt_state: the optimizer's state.
    target: `{"params", "batch_stats"}` of the momentum encoder; None when the objective has none.
    ema: exponential average of `params` for evaluation; None when the config has none.
    rng: uint32 `[2]`, never advanced: each step folds in `step`.
  """

  step: Leaf
  params: PyTree
  batch_stats: PyTree
  opt_state: optax.OptState
  target: PyTree | None
  ema: PyTree | None
  rng: Leaf

  @property
  def eval_params(self) -> PyTree:
    """The parameters that evaluation uses: the average where there is one."""
    return self.params if self.ema is None else self.ema


def make_init(
  objective: Any, tx: optax.GradientTransformation, batch: PyTree, *, ema: bool
) -> Callable[[jax.Array], TrainState]:
  """Returns the pure function `init(key)` that makes a run's first state.

  Args:
    objective: has `init(key, batch) -> {"params", "batch_stats", "target"}`.
    tx: the optimizer.
    batch: anything with the shapes and dtypes of a training batch.
    ema: whether the state carries an average of its parameters.
  """

  def init(key: jax.Array) -> TrainState:
    params_key, rng = jax.random.split(key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch)
    variables = objective.init(params_key, zeros)
    params = variables["params"]
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      batch_stats=variables["batch_stats"],
      opt_state=tx.init(params),
      target=variables["target"],
      ema=params if ema else None,
      rng=rng,
    )

  return init


def abstract(
  init: Callable[[jax.Array], TrainState], sharding: jax.sharding.Sharding
) -> TrainState:
  """The state's shapes, dtypes and placement, without computing it (what a restore needs)."""
  shapes = jax.eval_shape(init, jax.ShapeDtypeStruct((2,), jnp.uint32))
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


def create(
  init: Callable[[jax.Array], TrainState], seed: int, sharding: jax.sharding.Sharding
) -> TrainState:
  """Makes the first state straight in its placement: no device ever holds a second copy."""
  # A raw key, not a typed one: checkpoints then hold nothing but plain arrays.
  return jax.jit(lambda: init(jax.random.PRNGKey(seed)), out_shardings=sharding)()
