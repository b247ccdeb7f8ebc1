"""Test-time adaptation: a model adapts itself to the images it is to be used on, without labels.

Gradient descent makes the model's predictions for these images less uncertain: it lowers their
entropy, by default through the scales and biases of the normalisations alone.
Source: Wang, Shelhamer, Liu, Olshausen and Darrell, "Tent: Fully Test-Time Adaptation by Entropy
Minimization", ICLR 2021. The paper goes through a stream of batches with the batches' own
statistics and never resets; here all of this is a choice.

For one image, or for a small set that a model adapts to as a whole:

  adapted = adaptation.adapt(model, variables, image, segments, steps=10, learning_rate=1e-3)
  out = model.apply(adapted, image, segments, train=False)

or, for a photograph and a `Segmenter`:

  image, segments = segmenter.inputs("photo.jpg")
  adapted = adaptation.adapt(
    segmenter.model, segmenter.variables, image, segments, steps=10, learning_rate=1e-3
  )
  hierarchy = segmenter.with_variables(adapted)("photo.jpg")
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hseg_jax import metrics
from hseg_jax.errors import UserError
from hseg_jax.models import batch_statistics
from hseg_jax.training import optim

Variables = Mapping[str, Any]

PARAMETERS = ("norm", "all")
STATISTICS = ("running", "batch")


class State(NamedTuple):
  """A model on its way: its variables, and what the optimizer remembers."""

  variables: Variables
  opt_state: Any


@dataclasses.dataclass(frozen=True)
class Adapter:
  """How a model adapts; all methods are pure, and may be compiled and mapped.

  Attributes:
    model: a model with a classifier, of images or of segments.
    parameters: what moves: "norm", scales and biases of all layer and batch normalisations, or
      "all". What the model lists as frozen never does.
    statistics: by which batch normalisations normalise: "running" keeps those of training, "batch"
      puts those of the images adapted to in their place. Dropout is off either way.
    optimizer: "sgd" (momentum 0.9) or "adamw" (without decay), or another of `optim.OPTIMIZERS`.

  Raises:
    UserError: an option is none of these, or the model has no classifier.
  """

  model: Any
  parameters: str = "norm"
  statistics: str = "running"
  optimizer: str = "sgd"

  def __post_init__(self):
    for name, choices in (
      ("parameters", PARAMETERS),
      ("statistics", STATISTICS),
      ("optimizer", tuple(optim.OPTIMIZERS)),
    ):
      if getattr(self, name) not in choices:
        raise UserError(
          f"Adaptation's {name} is {getattr(self, name)!r}; choose among {', '.join(choices)}."
        )
    if not self.model.num_classes or getattr(self.model, "head_kind", "linear") == "projector":
      raise UserError(
        "Adaptation lowers the entropy of class probabilities, and the model has no classifier; "
        "take one that was trained with labels."
      )

  def start(self, variables: Variables) -> State:
    """The state before the first step."""
    return State(variables, self._tx(0.0).init(self._split(variables["params"])[0]))

  def update(
    self,
    state: State,
    image: Float[Array | np.ndarray, "b h w 3"],
    segments: Int[Array | np.ndarray, "b sh sw"] | None,
    *,
    steps: Any,
    learning_rate: Any,
  ) -> State:
    """Takes some steps down the mean entropy of all these images.

    Args:
      state: as `start` or this method gave it.
      image: as the model takes it.
      segments: likewise.
      steps: how many; with 0 only the statistics change, if at all.
      learning_rate: of every step.
    """
    moving, fixed = self._split(state.variables["params"])
    tx = self._tx(learning_rate)
    at = lambda moving: {
      **state.variables,
      "params": _join(state.variables["params"], moving, fixed),
    }

    def step(_, carry):
      moving, opt_state = carry
      loss = lambda moving: jnp.mean(entropy(self._apply(at(moving), image, segments)[0]))
      updates, opt_state = tx.update(jax.grad(loss)(moving), opt_state, moving)
      return jax.tree.map(jnp.add, moving, updates), opt_state

    moving, opt_state = jax.lax.fori_loop(0, steps, step, (moving, state.opt_state))
    variables = at(moving)
    if self.statistics == "batch":
      variables["batch_stats"] = self._apply(variables, image, segments)[1]
    return State(variables, opt_state)

  def _apply(self, variables: Variables, image: Any, segments: Any) -> tuple[Any, Any]:
    """Output, and the batch statistics that belong to it."""
    if self.statistics == "running":
      out = self.model.apply(variables, image, segments, train=False)
      return out, variables.get("batch_stats", {})
    return batch_statistics.apply(self.model, variables, image, segments)

  def _tx(self, learning_rate: Any) -> Any:
    return optim.make_optimizer(
      lambda step: learning_rate,
      name=self.optimizer,
      weight_decay=0.0,
      decay="all",
      clip_norm=0.0,
      b1=0.9,
      b2=0.999,
      frozen=lambda params: jax.tree.map(lambda leaf: False, params),
    )

  def _split(self, params: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The leaves that move and those that do not, by path.

    Only the former are ever copied, so that many images can each have their own.
    """
    frozen = _flatten(self.model.frozen(params))
    norms = norm_parameters(params)
    moves = lambda path: not frozen[path] and (self.parameters == "all" or path in norms)
    leaves = _flatten(params)
    return (
      {path: leaf for path, leaf in leaves.items() if moves(path)},
      {path: leaf for path, leaf in leaves.items() if not moves(path)},
    )


@functools.partial(jax.jit, static_argnames=("model", "parameters", "statistics", "optimizer"))
def adapt(
  model: Any,
  variables: Variables,
  image: Float[Array | np.ndarray, "b h w 3"],
  segments: Int[Array | np.ndarray, "b sh sw"] | None = None,
  *,
  steps: Any,
  learning_rate: Any,
  parameters: str = "norm",
  statistics: str = "running",
  optimizer: str = "sgd",
) -> Variables:
  """The variables of a model adapted to one image, or to a small set of them as a whole.

  Other numbers of steps and learning rates do not compile anew.

  Args:
    model: a model with a classifier.
    variables: of the model; they stay as they are.
    image: as the model takes it.
    segments: likewise.
    steps: of gradient descent.
    learning_rate: of every step.
    parameters: as `Adapter` says, and so are the others.

  Raises:
    UserError: an option is unknown, or the model has no classifier.
  """
  adapter = Adapter(model, parameters, statistics, optimizer)
  state = adapter.start(variables)
  return adapter.update(state, image, segments, steps=steps, learning_rate=learning_rate).variables


def entropy(out: Any) -> Float[Array, "b"]:
  """Entropy of a model's prediction for each image, in nats; of its valid segments in the mean if
  each has a prediction of its own."""
  found = metrics.entropy(out.logits)
  if found.ndim == 1:
    return found
  mask = out.levels[0].mask
  return jnp.sum(found * mask, axis=1) / jnp.maximum(jnp.sum(mask, axis=1), 1)


def norm_parameters(params: Any) -> set[str]:
  """Paths of the scales and biases of all normalisations: no other module has a `scale`."""
  paths = _flatten(params).keys()
  owners = {path.removesuffix("/scale") for path in paths if path.endswith("/scale")}
  return {path for path in paths if path.rpartition("/")[0] in owners}


def _flatten(params: Any) -> dict[str, Any]:
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }


def _join(like: Any, *parts: Mapping[str, Any]) -> Any:
  """The inverse of `_flatten` for a tree cut into parts."""
  leaves = {path: leaf for part in parts for path, leaf in part.items()}
  return jax.tree.unflatten(jax.tree.structure(like), [leaves[path] for path in _flatten(like)])
