"""CAST: what must not change its output, and what must."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hseg_jax

TINY = dict(
  num_classes=5,
  dim=16,
  depths=(1, 1),
  num_heads=2,
  pool_num_heads=2,
  num_segments=12,
  num_clusters=(5, 3),
  stem_strides=(2, 2),
  position_grid=(8, 8),
)
FORMS = {
  "cast": ("cast_tiny", {}),
  "area": ("cast_tiny", {"segment_mean": "area"}),
  "seg_pretrain": ("cast_tiny_seg", {}),
  "seg_segments": ("cast_tiny_seg", {"segment_mean": "bilinear", "output": "segments"}),
}


def labels(seed, batch=2, size=(32, 32), present=12, cell=8):
  """Blocky random label maps in which ids from `present` on are absent."""
  rng = np.random.default_rng(seed)
  rows, columns = -(-size[0] // cell), -(-size[1] // cell)
  blocks = rng.integers(0, present, (batch, rows, columns)).astype(np.int32)
  return blocks.repeat(cell, 1).repeat(cell, 2)[:, : size[0], : size[1]]


def create(form, fields=()):
  name, extra = FORMS[form]
  return hseg_jax.create_model(name, **{**TINY, **extra, **dict(fields)})


@functools.cache
def initial(form, fields):
  """First variables, and an image."""
  image = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
  init = jax.jit(functools.partial(create(form, fields).init, train=False))
  return init(jax.random.key(1), image, labels(0)), np.asarray(image)


@functools.cache
def built(form, fields=()):
  apply = functools.partial(create(form, fields).apply, train=False)
  # Of the same variables are models that differ in these only.
  shaping = (each for each in fields if each[0] not in ("num_segments", "empty_segments"))
  return jax.jit(apply), *initial(form, tuple(shaping))


@functools.cache
def slope(form):
  """A loss of all that training says, and its gradient."""

  def loss(params, batch_stats, image, segments):
    out, _ = create(form).apply(
      {"params": params, "batch_stats": batch_stats},
      image,
      segments,
      train=True,
      rngs={"dropout": jax.random.key(0)},
      mutable=["batch_stats"],
    )
    return (out.logits**2).sum() + sum((level.logits**2).sum() for level in out.levels)

  return jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize("form", FORMS)
def test_permuting_ids_permutes_tokens(form):
  apply, variables, image = built(form)
  segments = labels(0, present=10)
  permutation = np.random.default_rng(3).permutation(12).astype(np.int32)
  a, b = apply(variables, image, segments), apply(variables, image, permutation[segments])
  np.testing.assert_allclose(b.features, a.features, atol=1e-5)
  first, second = a.levels[0], b.levels[0]
  np.testing.assert_allclose(second.tokens[:, permutation], first.tokens, atol=1e-5)
  np.testing.assert_array_equal(second.mask[:, permutation], first.mask)
  np.testing.assert_array_equal(second.sampled, permutation[np.asarray(first.sampled)])
  np.testing.assert_allclose(second.assignment[:, permutation], first.assignment, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_empty_segments_change_nothing(form):
  # Where none is empty "attend" equals the reference, and so has "mask" to do where some are.
  one = labels(1)[0]
  ids, closed = np.unique(np.stack([one, one[::-1]]), return_inverse=True)
  closed = closed.reshape(2, *one.shape).astype(np.int32)
  spread = np.sort(np.random.default_rng(0).permutation(20)[: len(ids)]).astype(np.int32)
  attend, variables, image = built(form, (("num_segments", len(ids)), ("empty_segments", "attend")))
  mask, _, _ = built(form, (("num_segments", 20),))
  a, b = attend(variables, image, closed), mask(variables, image, spread[closed])
  np.testing.assert_allclose(b.features, a.features, atol=1e-5)
  np.testing.assert_allclose(b.levels[1].logits, a.levels[1].logits, atol=1e-4)
  np.testing.assert_allclose(b.levels[0].tokens[:, spread], a.levels[0].tokens, atol=1e-5)
  assert not np.delete(b.levels[0].tokens, spread, axis=1).any()


def test_statistics_of_the_fusion_leave_empty_segments_out():
  _, variables, image = built("seg_pretrain")
  found = []
  for num_segments in (12, 20):
    fields = {**TINY, "num_segments": num_segments, "pool_dropout": 0.0, "fusion_dropout": 0.0}
    model = hseg_jax.create_model("cast_tiny_seg", **fields)
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    found.append(apply(variables, image, labels(1, present=7))[1]["batch_stats"]["fusion"]["norm"])
  np.testing.assert_allclose(found[1]["mean"], found[0]["mean"], atol=1e-5)
  np.testing.assert_allclose(found[1]["var"], found[0]["var"], atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_batch_mates_do_not_matter(form):
  apply, variables, image = built(form)
  segments = labels(2, present=7)
  together = apply(variables, image, np.stack([segments[0], labels(3)[0]]))
  other = apply(variables, np.stack([image[0], image[1] * 5]), segments)
  np.testing.assert_allclose(other.logits[0], together.logits[0], atol=1e-6)


def test_attend_lets_empty_segments_matter():
  # The form that reproduces the reference must keep its dependence on absent ids.
  apply, variables, image = built("cast", (("empty_segments", "attend"),))
  more, _, _ = built("cast", (("empty_segments", "attend"), ("num_segments", 20)))
  a, b = apply(variables, image, labels(1)), more(variables, image, labels(1))
  assert np.abs(a.features - b.features).max() > 1e-4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("present", [2, 0])
def test_few_or_no_valid_segments_stay_finite(form, present):
  apply, variables, image = built(form)
  segments = labels(4, present=max(present, 1)) - (present == 0)  # -1: belongs to no segment
  out = apply(variables, image, segments)
  count = np.array([len(np.unique(one[one >= 0])) for one in segments])
  for level in out.levels:
    np.testing.assert_array_equal(level.mask.sum(1), np.minimum(count, level.mask.shape[1]))
    np.testing.assert_array_equal(level.sampled >= 0, level.cluster_mask)
    assert not np.asarray(level.centroids)[~np.asarray(level.cluster_mask)].any()
    sums = level.assignment.sum(-1)
    np.testing.assert_allclose(sums, np.where(level.mask, 1.0, 0.0), atol=1e-6)

  value, grads = slope(form)(variables["params"], variables["batch_stats"], image, segments)
  assert np.isfinite(value)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(40, 24), (33, 47)])
def test_other_sizes(form, size):
  apply, variables, _ = built(form)
  image = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
  out = apply(variables, image, labels(0, 1, size))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))
  assert out.levels[0].tokens.shape == (1, 12, 16)
  assert np.asarray(out.levels[0].mask).sum() > 6


def test_two_blocks_a_stage_differ_from_one():
  apply, variables, image = built("cast", (("depths", (2, 2)),))
  assert set(variables["params"]["stage_1"]) == {"block_00", "block_01"}
  without = jax.tree.map(jnp.asarray, variables)
  block = without["params"]["stage_1"]["block_01"]
  block["mlp"]["fc_2"]["kernel"] = jnp.zeros_like(block["mlp"]["fc_2"]["kernel"])
  a, b = apply(variables, image, labels(0)), apply(without, image, labels(0))
  assert np.abs(a.features - b.features).max() > 1e-4


@pytest.mark.parametrize("train_last_pool", [True, False])
def test_losses_reach_the_last_pool_only_when_asked(train_last_pool):
  model = hseg_jax.create_model("cast_tiny", **TINY, train_last_pool=train_last_pool)
  image = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
  variables = jax.jit(lambda: model.init(jax.random.key(1), image, labels(0), train=False))()

  def loss(params):
    out = model.apply({**variables, "params": params}, image, labels(0), train=False)
    return (out.logits**2).sum() + (out.levels[-1].centroids ** 2).sum()

  grads = jax.jit(jax.grad(loss))(variables["params"])
  reached = {
    path: bool(np.any(g)) for path, g in grads["pool_1"]["nodes"]["attention"]["qkv"].items()
  }
  assert reached["kernel"] == train_last_pool
  assert np.any(grads["pool_0"]["nodes"]["attention"]["qkv"]["kernel"])
  assert np.any(grads["cls_token"]) and not np.any(grads["position"]["table"])


@pytest.mark.parametrize("field", ["drop_path", "pool_dropout", "fusion_dropout"])
def test_each_dropout_is_on_in_training_only(field):
  _, variables, image = built("seg_pretrain")

  def draws(rate, train):
    rates = {"drop_path": 0.0, "pool_dropout": 0.0, "fusion_dropout": 0.0, field: rate}
    model = hseg_jax.create_model("cast_tiny_seg", **TINY, **rates)
    rngs, mutable = {"dropout": jax.random.key(0)}, ["batch_stats"]
    apply = functools.partial(model.apply, train=train, rngs=rngs, mutable=mutable)
    return "random_bits" in str(jax.make_jaxpr(apply)(variables, image, labels(0)))

  assert draws(0.5, train=True)
  assert not draws(0.5, train=False) and not draws(0.0, train=True)


def test_outputs_of_the_segmentation_forms():
  apply, variables, image = built("seg_segments")
  out = apply(variables, image, labels(0))
  assert out.logits.shape == (2, 12, 5) and out.features.shape == (2, 16)
  bare, bare_variables, _ = built(
    "seg_segments", (("num_classes", 0), ("position", "learned"), ("init", "deit"))
  )
  assert "head" not in bare_variables["params"]
  assert bare(bare_variables, image, labels(0)).logits.shape == (2, 12, 16)
  image_form, variables, image = built("seg_pretrain")
  assert image_form(variables, image, labels(0)).logits.shape == (2, 5)


def test_labels_may_be_coarser_than_the_image():
  apply, variables, image = built("cast")
  segments = labels(0)
  a, b = apply(variables, image, segments), apply(variables, image, segments[:, ::4, ::4])
  np.testing.assert_allclose(a.features, b.features, atol=1e-6)


def test_means_by_area_know_segments_between_the_cells():
  """A line of one pixel, which the labels at the cells' corners do not show."""
  segments = jnp.zeros((1, 32, 32), jnp.int32).at[0, 10].set(1)
  rng = np.random.default_rng(0)
  grid = jnp.asarray(rng.normal(size=(1, 8, 8, 16)), jnp.float32)
  table = jnp.asarray(rng.normal(size=(8, 8, 16)), jnp.float32)
  mask = create("cast").tokenize(grid, table, segments)[2]
  assert mask[0].tolist() == [True] + [False] * 11
  features, positions, mask = create("area").tokenize(grid, table, segments)
  assert mask[0].tolist() == [True, True] + [False] * 10
  for found, cells in ((features[0], grid[0]), (positions[0], table)):
    pixels = np.asarray(cells.repeat(4, 0).repeat(4, 1))
    np.testing.assert_allclose(found[0], pixels[np.asarray(segments[0]) == 0].mean(0), atol=1e-5)
    np.testing.assert_allclose(found[1], cells[2].mean(0), atol=1e-5)


@pytest.mark.parametrize("segment_mean", ["nearest", "area", "bilinear"])
def test_tokens_of_a_large_image_take_a_tenth_of_the_upsampled_grid(segment_mean):
  model = hseg_jax.create_model("cast_small_seg", num_segments=1024, segment_mean=segment_mean)
  grid = jax.ShapeDtypeStruct((1, 64, 64, 384), jnp.float32)
  table = jax.ShapeDtypeStruct((64, 64, 384), jnp.float32)
  segments = jax.ShapeDtypeStruct((1, 512, 512), jnp.int32)
  compiled = jax.jit(model.tokenize).lower(grid, table, segments).compile()
  assert compiled.memory_analysis().temp_size_in_bytes <= 512 * 512 * 384 * 4 / 10
