"""Every variant: its size, its frozen leaves, its fields."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hseg_jax
from hseg_jax.errors import UserError
from hseg_jax.models import VARIANTS

# Parameters in all, and of these trainable. Those of published models are the published numbers.
COUNTS = {
  "cast_tiny": (2_660_344, 2_428_024),
  "cast_small": (28_339_864, 26_260_504),
  "cast_small_deep": (35_437_720, 33_358_360),
  "cast_base": (111_799_624, 104_101_960),
  "cast_base_deep": (140_151_112, 132_453_448),
  "cast_tiny_seg": (2_726_776, 2_693_880),
  "cast_small_seg": (28_932_376, 28_630_936),
  "cast_small_deep_seg": (36_030_232, 35_728_792),
  "cast_base_seg": (114_164_296, 113_561_416),
  "cast_base_deep_seg": (142_515_784, 141_912_904),
  "vit_conv_tiny": (1_838_072, 1_829_752),
  "vit_conv_small": (21_002_392, 20_926_744),
  "vit_conv_base": (82_968_904, 82_817_608),
  "vit_small": (22_050_664, 21_975_016),
  "tome_small": (21_228_184, 20_926_744),
}


@functools.cache
def shapes_of(model):
  height, width = model.image_size
  image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
  segments = jax.ShapeDtypeStruct((1, height, width), jnp.int32)
  return jax.eval_shape(
    lambda i, s: model.init(jax.random.key(0), i, s, train=False), image, segments
  )


def size(leaves):
  return sum(int(np.prod(leaf.shape)) for leaf in leaves)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_parameter_counts(name):
  model = hseg_jax.create_model(name)
  params = shapes_of(model)["params"]
  frozen = jax.tree.leaves(model.frozen(params))
  trainable = [x for x, f in zip(jax.tree.leaves(params), frozen, strict=True) if not f]
  counts = size(jax.tree.leaves(params)), size(trainable)
  assert counts == COUNTS[name], (
    f"{name} has {counts[0]:,} parameters, {counts[1]:,} of them trainable. If you meant to change "
    "the model, change this table; if not, old checkpoints no longer load."
  )
  assert {x.dtype for x in jax.tree.leaves(shapes_of(model))} == {np.dtype(np.float32)}


def test_learned_positions_train():
  model = hseg_jax.create_model("cast_small", position="learned")
  params = shapes_of(model)["params"]
  mask = model.frozen(params)
  assert not any(jax.tree.leaves(mask["position"]))
  trainable = [
    x for x, f in zip(jax.tree.leaves(params), jax.tree.leaves(mask), strict=True) if not f
  ]
  assert size(trainable) == 26_561_944


def test_training_the_last_pool_unfreezes_it():
  params = shapes_of(hseg_jax.create_model("cast_tiny"))["params"]
  frozen = lambda last: hseg_jax.create_model("cast_tiny", train_last_pool=last).frozen(params)
  assert all(jax.tree.leaves(frozen(False)["pool_3"]))
  assert not any(jax.tree.leaves(frozen(True)["pool_3"]))
  assert not any(jax.tree.leaves(frozen(False)["pool_2"]))


@pytest.mark.parametrize("name", ["cast_tiny", "cast_tiny_seg", "vit_conv_tiny", "tome_small"])
@pytest.mark.parametrize("fields", [{"dtype": "bfloat16"}, {"remat": True}])
def test_bfloat16_and_remat_keep_the_output(name, fields):
  small = dict(dim=16, num_heads=2, depths=(1,), num_classes=5, stem_strides=(2, 4))
  small |= dict(position_grid=(4, 4))
  if "cast" in name:
    small |= dict(pool_num_heads=2, num_segments=9, num_clusters=(4,))
  if name == "tome_small":
    small |= dict(num_segments=9, num_merged=2)
  image = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
  segments = jax.random.randint(jax.random.key(1), (2, 32, 32), 0, 9)
  plain = hseg_jax.create_model(name, **small)
  init = lambda model: lambda: model.init(jax.random.key(2), image, segments, train=False)
  variables = jax.jit(init(plain))()
  expected = jax.jit(lambda: plain.apply(variables, image, segments, train=False))()
  other = hseg_jax.create_model(name, **small, **fields)
  assert jax.eval_shape(init(other)) == jax.eval_shape(init(plain))

  def total(v):
    out = other.apply(v, image, segments, train=False)
    return out.logits.sum(), out

  grads, got = jax.jit(jax.grad(total, has_aux=True))(variables)
  assert got.logits.dtype == jnp.float32
  atol = 0.1 if "dtype" in fields else 1e-6
  np.testing.assert_allclose(got.features, expected.features, atol=atol)
  assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    (dict(name="cast_smal"), ["cast_smal", "'cast_small'"]),
    (dict(name="cast_small", num_cluster=(1,)), ["num_cluster", "'num_clusters'"]),
    (dict(name="vit_small", num_clusters=(1,)), ["vit_small", "num_clusters"]),
    (dict(name="cast_small", position="rotary"), ["rotary", "sincos"]),
    (dict(name="cast_small", depths=(1, 1)), ["num_clusters", "depths"]),
    (dict(name="cast_small", num_heads=7), ["num_heads=7", "384"]),
    (dict(name="cast_small", dim=60, num_heads=12), ["dim=60"]),
    (dict(name="vit_small", num_heads=0), ["num_heads=0", "positive"]),
    (dict(name="cast_tiny", depths=(1, 1, 1, "a")), ["depths", "'a'"]),
    (dict(name="vit_small", stem_strides=()), ["stem_strides=()"]),
    (dict(name="vit_small", position_grid=(4,)), ["position_grid=(4,)"]),
    (dict(name="cast_tiny", drop_path=1.5), ["drop_path=1.5"]),
    (dict(name="vit_small", mlp_ratio=-1.0), ["mlp_ratio=-1.0"]),
    (dict(name="cast_tiny", assignment="paths"), ["'paths'", "cosine, path"]),
    (dict(name="cast_tiny", path_seeds="grid"), ["'grid'", "features, graph, regions, balanced"]),
    (dict(name="cast_tiny", assignment="path", empty_segments="attend"), ["path", "'mask'"]),
    (dict(name="vit_small", assignment="path"), ["vit_small", "assignment"]),
  ],
)
def test_mistakes_are_named(arguments, words):
  with pytest.raises(UserError) as caught:
    hseg_jax.create_model(**arguments)
  assert all(word in str(caught.value) for word in words)


def test_lists_from_json_make_a_hashable_model():
  assert hash(hseg_jax.create_model("cast_tiny", depths=[1, 1, 1, 1], num_clusters=[8, 4, 2, 1]))
