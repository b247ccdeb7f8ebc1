"""CAST: a transformer over superpixels that pools its tokens into ever fewer, larger segments."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from hseg_jax.models.graph_pool import GraphPooling, masked_mean
from hseg_jax.models.heads import BlockFusion, read_head
from hseg_jax.models.initializers import cls_init, pooling_scheme, transformer_scheme
from hseg_jax.models.layer_norm import LayerNorm
from hseg_jax.models.mask_transformer import MaskTransformer
from hseg_jax.models.output import CastOutput, Level
from hseg_jax.models.path_assignment import make_graph, pool_graph
from hseg_jax.models.position import Position
from hseg_jax.models.segments import (
  compose,
  hard_assignment,
  interpolated_mean,
  resize_bicubic,
  segment_mean,
  shrink_labels,
  unpool,
)
from hseg_jax.models.stem import make_stem
from hseg_jax.models.vit import Blocks, drop_path_rates, frozen_mask


class Cast(nn.Module):
  """The classification model: the head sees the normed CLS token of the last block.

  Attributes:
    num_classes: size of the head; 0 for none.
    dim: width of the tokens.
    depths: transformer blocks of each stage.
    num_heads: of the blocks' attention; divides `dim`.
    pool_num_heads: of the attention inside the poolings; divides `dim`.
    num_segments: n, how many superpixel ids there may be.
    num_clusters: what each stage pools to.
    stem_strides: strides of the convolutional stem.
    position_grid: rows and columns of the position table, resized bicubically for other grids.
    segment_mean: what a token is the mean of. "nearest": the stem's cells at which the label map
      has the segment when it is shrunk to the stem's grid; a segment between them has no token, and
      is masked. "area": all cells, weighted by the pixels that the segment has in them, if the
      label map is at least as fine. "bilinear": the features interpolated to the label map's size,
      positions bicubically.
    mlp_ratio: width of the MLPs over `dim`.
    position: "sincos" (fixed; `cast.py` of the reference) or "learned" (`cast_deit.py`).
    drop_path: rate at the last block, ramped up linearly from 0.
    pool_dropout: inside the poolings.
    weight_init: "moco" or "deit", how the weights start (`create_model` calls it `init`).
    empty_segments: "mask" ignores tokens without pixels, "attend" lets them take part.
      NOTE(reference): it does the latter, and stops where there are fewer tokens than clusters.
    train_last_pool: whether losses reach the last pooling; the features then include the mean of
      its centroids. NOTE(reference): it never trains this pooling of its classification models.
    assignment: "cosine" compares tokens with seeds as published; "path" follows the graph of the
      segments, so that regions hang together where superpixels do. It needs no parameters but has
      some to train, and can be put upon weights that were trained without it.
    path_distance: "minimax" or "shortest", see `path_assignment.PathAssignment`.
    path_seeds: "features" (as published), "graph", "regions" or "balanced", see there.
    path_color: whether the distance of mean colours counts in it.
    path_contrast: whether the contrast across borders does, from pixel to pixel of `segments`.
    path_cosine: whether the published cosines count beside distances in the soft assignment.
    head_kind: "linear", or "projector" as in contrastive learning.
    head_hidden_dim: width inside a projector or classifier.
    dtype: of the computation; parameters, sampling, cosines and means are float32.
    remat: recompute each block in the backward pass instead of keeping its activations.

  Source: section 3 of the paper; `cast_models/cast.py` and `cast_deit.py` of the reference.
  """

  num_classes: int
  dim: int
  depths: Sequence[int]
  num_heads: int
  pool_num_heads: int
  num_segments: int
  num_clusters: Sequence[int]
  stem_strides: Sequence[int]
  position_grid: tuple[int, int]
  segment_mean: str = "nearest"
  mlp_ratio: float = 4.0
  position: str = "sincos"
  drop_path: float = 0.0
  pool_dropout: float = 0.1
  weight_init: str = "moco"
  empty_segments: str = "mask"
  train_last_pool: bool = False
  assignment: str = "cosine"
  path_distance: str = "minimax"
  path_seeds: str = "balanced"
  path_color: bool = True
  path_contrast: bool = False
  path_cosine: bool = False
  head_kind: str = "linear"
  head_hidden_dim: int = 4096
  dtype: str = "float32"
  remat: bool = False

  @property
  def stride(self) -> int:
    """Pixels per cell of the stem's grid."""
    return math.prod(self.stem_strides)

  @property
  def image_size(self) -> tuple[int, int]:
    """Height and width of the images that fit the position table, in pixels."""
    return self.position_grid[0] * self.stride, self.position_grid[1] * self.stride

  def frozen(self, params: dict) -> dict:
    """Mask of `params`, True for leaves that get no update and no decay: fixed positions, and the
    last pooling unless losses reach it."""
    last_pool = f"pool_{len(self.depths) - 1}"

    def is_frozen(path):
      if path[0] == "position":
        return self.position == "sincos"
      return path[0] == last_pool and not self.train_last_pool

    return frozen_mask(params, is_frozen)

  @nn.compact
  def __call__(
    self,
    image: Float[Array | np.ndarray, "b h w 3"],
    segments: Int[Array | np.ndarray, "b sh sw"],
    train: bool = False,
    borders: Float[Array | np.ndarray, "b n n"] | None = None,
  ) -> CastOutput:
    """Applies the model.

    Args:
      image: float32, normalised with the ImageNet mean and standard deviation.
      segments: superpixel ids in [0, num_segments), at any resolution; any id may be absent, ids
        outside belong to no segment.
      train: whether dropout is on and batch statistics are those of the batch.
      borders: how long a border each two superpixels share, if that is known from a finer map than
        `segments`; of use to the assignment "path".
    """
    image, segments = jnp.asarray(image), jnp.asarray(segments, jnp.int32)
    stem = make_stem(self.dim, self.stem_strides, self.dtype, self.weight_init)
    table, cls_position = Position(self.position, self.position_grid, self.dim, name="position")()
    features, positions, mask = self.tokenize(stem(image, train), table, segments)
    # Segments are fewer than cells, so the stem's last, linear layer follows the average.
    tokens = jnp.where(mask[..., None], stem.project(features) + positions, 0)
    cls = self.param("cls_token", cls_init(self.weight_init), (self.dim,)) + cls_position
    cls = jnp.broadcast_to(cls, (image.shape[0], self.dim))

    graph = None
    if self.assignment == "path":
      graph = make_graph(segments, image, mask, borders, self.path_contrast)
    rates = drop_path_rates(self.drop_path, sum(self.depths))
    levels, cls_tokens = [], []
    for i, (depth, num_clusters) in enumerate(zip(self.depths, self.num_clusters, strict=True)):
      x = jnp.concatenate([cls[:, None], tokens], axis=1)
      stage_rates, rates = rates[:depth], rates[depth:]
      x = self.blocks(stage_rates, name=f"stage_{i}")(x, self.block_mask(mask), train)
      last_cls, tokens = x[:, 0], x[:, 1:]
      cls, level = self.pool(num_clusters, name=f"pool_{i}")(last_cls, tokens, mask, train, graph)
      if i == len(self.depths) - 1 and not self.train_last_pool:
        cls, level = jax.lax.stop_gradient((cls, level))
        level = level.replace(tokens=tokens)
      if graph is not None:
        graph = pool_graph(graph, level.clusters, num_clusters)
      tokens, mask = level.centroids, level.cluster_mask
      levels.append(level)
      cls_tokens.append(cls)
    features, logits = self.read_out(last_cls, cls_tokens, levels, train)
    return CastOutput(
      logits=logits.astype(jnp.float32),
      features=features,
      cls_tokens=tuple(cls_tokens),
      levels=tuple(levels),
    )

  def blocks(self, rates: Sequence[float], name: str) -> Blocks:
    """The transformer blocks of a stage."""
    scheme = transformer_scheme(self.weight_init)
    return Blocks(
      self.dim, self.num_heads, self.mlp_ratio, rates, scheme, self.dtype, self.remat, name=name
    )

  def pool(self, num_clusters: int, name: str) -> GraphPooling:
    """The graph pooling after a stage."""
    return GraphPooling(
      num_clusters,
      self.dim,
      self.pool_num_heads,
      self.pool_dropout,
      pooling_scheme(self.weight_init),
      self.dtype,
      self.empty_segments == "attend",
      self.assignment,
      self.path_distance,
      self.path_seeds,
      self.path_color,
      self.path_contrast,
      self.path_cosine,
      name=name,
    )

  def block_mask(self, mask: Bool[Array, "b n"]) -> Bool[Array, "b m"] | None:
    """Which rows the blocks attend to: CLS and valid tokens, or all."""
    if self.empty_segments == "attend":
      return None
    return jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)

  def tokenize(
    self, grid: Float[Array, "b gh gw d"], table: Float[Array, "rows columns d"], segments
  ) -> tuple[Float[Array, "b n d"], Float[Array, "b n d"], Bool[Array, "b n"]]:
    """Means of features and of positions over segments, as `segment_mean` says; True where
    valid."""
    if self.segment_mean == "bilinear":
      positions, _ = interpolated_mean(table[None], segments, self.num_segments, "bicubic")
      # Nothing is NaN here, but compilers do not know, and so are done with one of the two large
      # matrices before they begin the other.
      segments = jnp.where(jnp.isnan(positions[:, :1, :1]), -1, segments)
      features, mask = interpolated_mean(grid, segments, self.num_segments, "bilinear")
      return features, positions, mask
    height, width = grid.shape[1:3]
    if (height, width) != table.shape[:2]:
      table = resize_bicubic(table, height, width)
    if self.segment_mean == "area":
      features, mask = interpolated_mean(grid, segments, self.num_segments, "nearest")
      positions, _ = interpolated_mean(table[None], segments, self.num_segments, "nearest")
      return features, positions, mask
    labels = shrink_labels(segments, height, width)
    features, mask = segment_mean(grid.astype(jnp.float32), labels, self.num_segments)
    tables = jnp.broadcast_to(table, (labels.shape[0], *table.shape))
    return features, segment_mean(tables, labels, self.num_segments)[0], mask

  def read_out(
    self,
    last_cls: Float[Array, "b d"],
    cls_tokens: Sequence[Float[Array, "b d"]],
    levels: Sequence[Level],
    train: bool,
  ) -> tuple[Float[Array, "b d"], Float[Array, "b c"]]:
    """Features and logits from what the stages returned."""
    del cls_tokens
    norm = LayerNorm("float32", name="norm")
    features = norm(last_cls)
    if self.train_last_pool:
      last = levels[-1]
      features += masked_mean(norm(last.centroids), last.cluster_mask)[:, 0]
    return features, read_head(self, features, train) if self.num_classes else features


def unpooled_tokens(levels: Sequence[Level], mask: Bool[Array, "b n"]) -> Float[Array, "b n e"]:
  """The tokens of all levels at the first one's resolution, side by side: each segment gets the
  tokens of the clusters that hold it. Zero where `mask` is False."""
  rows, assignment = [levels[0].tokens], None
  for fine, coarse in zip(levels[:-1], levels[1:], strict=True):
    step = hard_assignment(fine.logits, fine.cluster_mask)
    assignment = step if assignment is None else compose(assignment, step)
    rows.append(unpool(coarse.tokens, assignment))
  return jnp.where(mask[..., None], jnp.concatenate(rows, axis=-1), 0)


class CastSeg(Cast):
  """The segmentation model: tokens of all stages are fused, for the image or for every segment.

  Attributes (besides those of `Cast`):
    fusion_dropout: inside the block fusion.
    output: "image" averages the fused tokens into one feature vector (pretraining), "segments"
      applies the head to each of them (fine-tuning); `features` are then the fused CLS token.
    head_kind: of "segments" also "classifier" (as SPML's) and "mask_transformer" (as Segmenter's).

  Source: `cast_models/cast_seg.py` and `cast_seg_deit.py` of the reference.
  """

  fusion_dropout: float = 0.2
  output: str = "image"

  def read_out(self, last_cls, cls_tokens, levels, train):
    """Features and logits from the fused tokens of all stages."""
    del last_cls
    mask = levels[0].mask
    if self.empty_segments == "attend":
      mask = jnp.ones_like(mask)
    cls = jnp.concatenate(cls_tokens, axis=-1)[:, None]
    x = jnp.concatenate([cls, unpooled_tokens(levels, mask)], axis=1)
    fusion = BlockFusion(
      self.dim, self.fusion_dropout, pooling_scheme(self.weight_init), self.dtype, name="fusion"
    )
    fused = fusion(x, jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True), train)
    fused_cls, fused = fused[:, 0], jnp.where(mask[..., None], fused[:, 1:], 0)
    features = masked_mean(fused, mask)[:, 0] if self.output == "image" else fused_cls
    if self.output == "image":
      return features, read_head(self, features, train) if self.num_classes else features
    if not self.num_classes:
      return features, fused
    if self.head_kind == "mask_transformer":
      decoder = MaskTransformer(self.num_classes, self.dim, self.mlp_ratio, self.dtype, name="head")
      return features, decoder(fused, mask, train)
    return features, read_head(self, fused, train, mask)
