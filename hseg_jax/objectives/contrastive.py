"""Contrastive pretraining in the manner of MoCo v3.

Source: arXiv 2104.02057; the reference's moco-v3/suppix_utils/builder.py.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from hseg_jax import metrics
from hseg_jax.models.heads import Projector
from hseg_jax.preprocessing import add_segments, normalize

PyTree = Any


class Embeddings(struct.PyTreeNode):
  """Both views seen by both encoders, before the final normalisation.

  Attributes:
    z1, z2: online projections.
    q1, q2: online predictions, the queries.
    k1, k2: target projections, the keys; no gradient flows into them.
  """

  z1: Float[Array, "b e"]
  z2: Float[Array, "b e"]
  q1: Float[Array, "b e"]
  q2: Float[Array, "b e"]
  k1: Float[Array, "b e"]
  k2: Float[Array, "b e"]


def unit(x: Float[Array, "b e"]) -> Float[Array, "b e"]:
  """Rows of length one; unlike a division by the norm its gradient is finite at zero."""
  return x / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-24))


def info_nce(
  query: Float[Array, "b e"], key: Float[Array, "b e"], temperature: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """2 T times the cross-entropy of finding each query's own key among the batch's.

  Returns:
    The mean loss and the share of queries whose own key is the nearest.
  """
  cosine = jnp.matmul(unit(query), unit(key).T, precision=jax.lax.Precision.HIGHEST)
  own = jnp.arange(query.shape[0])
  losses = metrics.cross_entropy(cosine / temperature, own, 0.0)
  return 2.0 * temperature * jnp.mean(losses), jnp.mean(metrics.top_k(cosine, own, 1))


@dataclasses.dataclass(frozen=True)
class ContrastiveLoss:
  """The objective as a callable; see `make_loss`."""

  model: Any
  projector: Projector
  predictor: Projector
  temperature: float
  momentum: Callable[[Any], Any]
  segments_on_device: int = 0

  def init(self, key: jax.Array, batch: PyTree) -> dict[str, PyTree]:
    """Returns `{"params", "batch_stats", "target"}` for batches shaped like `batch`.

    The target starts as a copy of the online encoder and projector.
    """
    keys = jax.random.split(key, 3)
    batch = add_segments(batch, self.segments_on_device)
    image = normalize(batch["image_1"])
    encoder, variables = self.model.init_with_output(
      keys[0], image, batch.get("segments_1"), train=False
    )
    z, projector = self.projector.init_with_output(keys[1], encoder.features, train=False)
    predictor = self.predictor.init(keys[2], z, train=False)
    parts = {"encoder": variables, "projector": projector, "predictor": predictor}
    params = {name: part["params"] for name, part in parts.items()}
    batch_stats = {name: part.get("batch_stats", {}) for name, part in parts.items()}
    target = {"params": _without_predictor(params), "batch_stats": _without_predictor(batch_stats)}
    return {"params": params, "batch_stats": batch_stats, "target": target}

  def frozen(self, params: PyTree) -> PyTree:
    """Mask of `params`, True for leaves that get no update and no decay."""
    trained = jax.tree.map(lambda _: False, params)
    return trained | {"encoder": self.model.frozen(params["encoder"])}

  def model_variables(self, params: PyTree, batch_stats: PyTree) -> dict[str, PyTree]:
    """The variables of the encoder alone: what evaluation and export use."""
    return {"params": params["encoder"], "batch_stats": batch_stats["encoder"]}

  def with_model(self, state: PyTree, variables: dict[str, PyTree]) -> PyTree:
    """The state with other `model_variables`, for the target too: it starts as a copy."""
    put = lambda tree, part: tree | {"encoder": variables[part]}
    copy = jax.tree.map(jnp.copy, variables)  # each buffer is given away only once
    target = {part: state.target[part] | {"encoder": copy[part]} for part in state.target}
    return state.replace(
      params=put(state.params, "params"),
      batch_stats=put(state.batch_stats, "batch_stats"),
      target=target,
    )

  def _project(self, params, stats, image, segments, key):
    """One view through encoder and projector; returns z and the statistics after it."""
    out, encoder = self.model.apply(
      {"params": params["encoder"], "batch_stats": stats["encoder"]},
      normalize(image),
      segments,
      train=True,
      rngs={"dropout": key},
      mutable=["batch_stats"],
    )
    z, projector = self.projector.apply(
      {"params": params["projector"], "batch_stats": stats["projector"]},
      out.features,
      train=True,
      mutable=["batch_stats"],
    )
    stats = stats | {
      "encoder": encoder.get("batch_stats", {}),
      "projector": projector["batch_stats"],
    }
    return z, stats

  def _predict(self, params, stats, z):
    q, predictor = self.predictor.apply(
      {"params": params["predictor"], "batch_stats": stats["predictor"]},
      z,
      train=True,
      mutable=["batch_stats"],
    )
    return q, stats | {"predictor": predictor["batch_stats"]}

  def embed(
    self, params: PyTree, state: PyTree, batch: PyTree, rng: jax.Array
  ) -> tuple[Embeddings, PyTree]:
    """Both views through both encoders, one view after the other, never together.

    The target moves towards the online parameters, frozen ones included, before it makes the
    keys; its statistics are its own. Arguments as for `__call__`.

    Returns:
      The embeddings and the state with new statistics and the new target.
    """
    batch = add_segments(batch, self.segments_on_device)
    views = [(batch[f"image_{i}"], batch.get(f"segments_{i}")) for i in (1, 2)]
    keys = jax.random.split(rng, 4)
    stats = state.batch_stats
    z, q, k = [], [], []
    for (image, segments), key in zip(views, keys[:2], strict=True):
      projection, stats = self._project(params, stats, image, segments, key)
      prediction, stats = self._predict(params, stats, projection)
      z.append(projection)
      q.append(prediction)

    m = self.momentum(state.step)
    online = jax.lax.stop_gradient(_without_predictor(params))
    target_params = jax.tree.map(
      lambda old, new: m * old + (1.0 - m) * new, state.target["params"], online
    )
    target_stats = state.target["batch_stats"]
    for (image, segments), key in zip(views, keys[2:], strict=True):
      projection, target_stats = self._project(target_params, target_stats, image, segments, key)
      k.append(jax.lax.stop_gradient(projection))
    target = {"params": target_params, "batch_stats": target_stats}
    return Embeddings(*z, *q, *k), state.replace(batch_stats=stats, target=target)

  def __call__(
    self, params: PyTree, state: PyTree, batch: PyTree, rng: jax.Array
  ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
    """Returns the loss, the state with new statistics and target, and the metrics.

    Args:
      params: `{"encoder", "projector", "predictor"}`.
      state: the `TrainState`; its `step`, `batch_stats` and `target` are read.
      batch: `image_1`, `image_2` uint8 `[b, h, w, 3]`; `segments_1`, `segments_2` int32
        `[b, h, w]` where the model takes them and the step does not make them.
      rng: for dropout and drop path, this step's own.
    """
    e, new_state = self.embed(params, state, batch, rng)
    loss_12, top1_12 = info_nce(e.q1, e.k2, self.temperature)
    loss_21, top1_21 = info_nce(e.q2, e.k1, self.temperature)
    return loss_12 + loss_21, (new_state, {"match_top1": 0.5 * (top1_12 + top1_21)})


def _without_predictor(tree: PyTree) -> PyTree:
  return {name: tree[name] for name in ("encoder", "projector")}


def make_loss(
  model: Any,
  *,
  temperature: float,
  momentum: float | Callable[[Any], Any],
  projection_dim: int,
  hidden_dim: int,
  segments_on_device: int = 0,
) -> ContrastiveLoss:
  """The contrastive objective of a model.

  Args:
    model: an encoder (`num_classes=0`); its `features` are projected.
    temperature: T of the loss.
    momentum: how much of the target stays at each step: a number, or a schedule of the step.
    projection_dim: e, width of the space in which views are compared.
    hidden_dim: width of the MLPs.
    segments_on_device: the most superpixels to make of an image; 0 if batches have `segments_1`
      and `segments_2`.

  Raises:
    ValueError: the model has a head, which nothing would train.
  """
  if model.num_classes:
    raise ValueError("Contrastive learning wants an encoder: create the model with num_classes=0.")
  return ContrastiveLoss(
    model=model,
    projector=Projector(hidden_dim, projection_dim, num_layers=3, dtype=model.dtype),
    predictor=Projector(hidden_dim, projection_dim, num_layers=2, dtype=model.dtype),
    temperature=temperature,
    momentum=momentum if callable(momentum) else lambda step: momentum,
    segments_on_device=segments_on_device,
  )
