"""The decoder of Segmenter: its size, its formula, and that padding changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf, softmax

from hseg_jax.models.mask_transformer import MaskTransformer


def test_as_many_parameters_as_published():
  model = MaskTransformer(150, 384, 4.0, "float32")
  tokens, mask = jnp.zeros((1, 2, 384)), jnp.ones((1, 2), bool)
  init = functools.partial(model.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), tokens, mask)
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 4_050_348


def decode(p, x, num_classes):
  """The formula, in numpy: for one image without padding and one head."""

  def norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

  linear = lambda x, p: x @ p["kernel"] + p["bias"]
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  x = np.concatenate([linear(x, p["projection"]), p["class_tokens"]])
  for block in (p["block_00"], p["block_01"]):
    q, k, v = np.split(linear(norm(x, block["norm_1"]), block["attention"]["qkv"]), 3, axis=-1)
    attended = softmax(q @ k.T / np.sqrt(q.shape[-1]), axis=-1) @ v
    x = x + linear(attended, block["attention"]["out"])
    y = linear(norm(x, block["norm_2"]), block["mlp"]["fc_1"])
    x = x + linear(y * (1 + erf(y / np.sqrt(2))) / 2, block["mlp"]["fc_2"])
  x = norm(x, p["norm"])
  segments = unit(x[:-num_classes] @ p["segment_projection"])
  classes = unit(x[-num_classes:] @ p["class_projection"])
  return norm(segments @ classes.T, p["class_norm"])


def test_logits_follow_the_formula_whatever_the_padding():
  rng = np.random.default_rng(0)
  model = MaskTransformer(3, 64, 4.0, "float32")
  tokens = rng.normal(size=(1, 7, 64)).astype(np.float32)
  mask = np.arange(7)[None] < 5
  shapes = jax.eval_shape(
    functools.partial(model.init, train=False), jax.random.key(0), tokens, mask
  )
  params = jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3).astype(np.float32), shapes)
  logits = jax.jit(functools.partial(model.apply, train=False))(params, tokens, mask)
  wanted = decode(params["params"], tokens[0, :5].astype(np.float64), 3)
  np.testing.assert_allclose(logits[0, :5], wanted, atol=2e-4)
  assert not logits[0, 5:].any()
