"""Test-time adaptation: what moves, that entropy falls, statistics, and independent images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hseg_jax
from hseg_jax import adaptation
from hseg_jax.errors import UserError
from hseg_jax.models import batch_statistics

SIZE = 16


@pytest.fixture(scope="module")
def vit():
  """A small ViT whose running statistics are not its batch's, with two images."""
  model = hseg_jax.create_model(
    "vit_conv_tiny",
    num_classes=4,
    dim=16,
    depths=(1,),
    num_heads=2,
    stem_strides=(2, 2),
    position_grid=(4, 4),
    drop_path=0.5,
  )
  rng = np.random.default_rng(0)
  image = rng.normal(0.3, 1.5, (2, SIZE, SIZE, 3)).astype(np.float32)
  init = jax.jit(functools.partial(model.init, segments=None, train=False))
  variables = init(jax.random.key(0), image)
  params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape), variables["params"])
  params = jax.tree.map(lambda leaf: leaf.astype(np.float32), params)
  return model, {**variables, "params": params}, image


def paths(tree):
  return adaptation._flatten(tree)


def moved(old, new):
  old, new = paths(old), paths(new)
  return {path for path in old if np.any(old[path] != new[path])}


@functools.partial(jax.jit, static_argnums=0)
def entropy(model, variables, image):
  return adaptation.entropy(model.apply(variables, image, None, train=False))


def test_only_the_norms_move_and_entropy_falls(vit):
  model, variables, image = vit
  adapted = adaptation.adapt(model, variables, image, steps=3, learning_rate=0.05)
  assert entropy(model, adapted, image).mean() < entropy(model, variables, image).mean() - 1e-3
  changed = moved(variables["params"], adapted["params"])
  # The last bias moves all logits' input, so even it has a gradient; no norm is without.
  assert changed == {path for path in paths(variables["params"]) if "norm" in path}
  assert not moved(variables["batch_stats"], adapted["batch_stats"])


def test_all_leaves_the_frozen_ones(vit):
  model, variables, image = vit
  adapted = adaptation.adapt(
    model, variables, image, steps=2, learning_rate=0.01, parameters="all", optimizer="adamw"
  )
  frozen = {path for path, fixed in paths(model.frozen(variables["params"])).items() if fixed}
  assert frozen == {"position/table", "position/cls"}
  unmoved = paths(variables["params"]).keys() - moved(variables["params"], adapted["params"])
  assert frozen <= unmoved
  assert {"head/kernel", "stem/conv_0/kernel", "norm/scale"}.isdisjoint(unmoved)


def test_one_step_is_gradient_descent_on_the_mean_entropy(vit):
  model, variables, image = vit

  @jax.jit
  def slope(scale):
    norm = {**variables["params"]["norm"], "scale": scale}
    other = {**variables, "params": {**variables["params"], "norm": norm}}
    return jax.grad(lambda leaf: entropy(model, other | leaf, image).mean())(
      {"params": other["params"]}
    )

  scale = variables["params"]["norm"]["scale"]
  gradient = slope(scale)["params"]["norm"]["scale"]
  adapted = adaptation.adapt(model, variables, image, steps=1, learning_rate=0.1)
  expected = scale - 0.1 * gradient
  np.testing.assert_allclose(adapted["params"]["norm"]["scale"], expected, rtol=1e-4, atol=1e-6)
  still = adaptation.adapt(model, variables, image, steps=0, learning_rate=0.1)
  assert not moved(variables, still)


def test_steps_and_rates_compile_nothing_anew(vit, monkeypatch):
  model, variables, image = vit
  traces = []
  real = adaptation.entropy
  monkeypatch.setattr(adaptation, "entropy", lambda out: traces.append(1) or real(out))
  for steps, rate in ((1, 0.02), (2, 0.02), (2, 0.5)):
    adaptation.adapt(model, variables, image[:, :12], steps=steps, learning_rate=rate)
  assert len(traces) <= 1


def test_batch_statistics_are_those_of_the_images_and_come_along(vit):
  model, variables, image = vit
  options = dict(steps=2, learning_rate=0.02, statistics="batch")
  adapted = adaptation.adapt(model, variables, image, **options)
  assert moved(variables["batch_stats"], adapted["batch_stats"]) == set(
    paths(variables["batch_stats"])
  )
  # Drop path, .5 here, is off: otherwise nothing below could be repeated.
  out, found = jax.jit(functools.partial(batch_statistics.apply, model))(adapted, image, None)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
    found,
    adapted["batch_stats"],
  )
  evaluated = jax.jit(functools.partial(model.apply, train=False))(adapted, image, None)
  np.testing.assert_allclose(out.logits, evaluated.logits, rtol=1e-3, atol=1e-4)


def test_normalisations_are_told_by_their_scale():
  for name in ("cast_tiny_seg", "tome_small"):
    model = hseg_jax.create_model(name, depths=(1,) * (4 if "cast" in name else 2))
    size = min(model.image_size)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((1, size, size), jnp.int32)
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), key, image, labels)
    found = adaptation.norm_parameters(shapes["params"])
    named = {path for path in paths(shapes["params"]) if "norm" in path.rpartition("/")[0]}
    assert found == named and len(found) > 4


def test_segments_without_pixels_have_no_entropy():
  logits = jnp.array([[[5.0, 0.0], [0.0, 0.0], [9.0, 1.0]]])
  level = type("Level", (), {"mask": jnp.array([[False, True, False]])})
  out = type("Output", (), {"logits": logits, "levels": (level,)})
  np.testing.assert_allclose(adaptation.entropy(out), [np.log(2)], rtol=1e-6)


def test_refuses_what_cannot_adapt(vit):
  model, *_ = vit
  for option in ("parameters", "statistics", "optimizer"):
    with pytest.raises(UserError, match=f"{option} is 'most'"):
      adaptation.Adapter(model, **{option: "most"})
  with pytest.raises(UserError, match="no classifier"):
    adaptation.Adapter(model.clone(num_classes=0))
  with pytest.raises(UserError, match="no classifier"):
    adaptation.Adapter(model.clone(head_kind="projector"))
