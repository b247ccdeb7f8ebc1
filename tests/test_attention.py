"""Attention of the class token, read out of models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from hseg_jax.models import create_model
from hseg_jax.models.attention import apply_with_attention
from hseg_jax.models.vit import Block
from tests import tiny_segmenter


def test_attention_of_a_cast_is_over_the_tokens_of_each_stage():
  model, variables = tiny_segmenter.built()
  image = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
  segments = jnp.broadcast_to(jnp.arange(32) // 4 + 3, (2, 32, 32))  # ids 3 to 10 of 16
  plain = jax.jit(functools.partial(model.apply, train=False))(variables, image, segments)
  assert plain.attention == ()
  out = jax.jit(functools.partial(apply_with_attention, model))(variables, image, segments)
  np.testing.assert_allclose(out.logits, plain.logits, atol=1e-5)
  assert [rows.shape for rows in out.attention] == [(2, 2, 16), (2, 2, 6)]
  for rows, level in zip(out.attention, out.levels, strict=True):
    valid = np.broadcast_to(level.mask[:, None], rows.shape)
    assert (rows[valid] > 0).all() and (rows[~valid] == 0).all()
    assert (rows.sum(-1) < 1).all()


def test_attention_of_a_vit_is_the_softmax_of_queries_and_keys():
  fields = dict(num_classes=0, dim=8, depths=(1,), num_heads=2, stem_strides=(4,))
  model = create_model("vit_conv_tiny", **fields, position_grid=(4, 4))
  image = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
  init = functools.partial(model.init, train=False)
  variables = jax.jit(init)(jax.random.key(1), image, None)
  assert variables.keys() == {"params"}  # what is read out never becomes a part of the weights
  (rows,) = apply_with_attention(model, variables, image, None).attention
  capture = lambda module, _: module.name == "norm_1" or isinstance(module, Block)
  apply = functools.partial(model.apply, train=False, capture_intermediates=capture)
  _, seen = jax.jit(apply)(variables, image, None)
  block = seen["intermediates"]["stage_0"]["block_00"]
  weights = variables["params"]["stage_0"]["block_00"]["attention"]["qkv"]
  qkv = np.asarray(block["norm_1"]["__call__"][0][0] @ weights["kernel"]) + weights["bias"][None]
  for head in range(2):
    query, keys = qkv[0, 4 * head :][:4], qkv[:, 8 + 4 * head :][:, :4]
    expected = special.softmax(keys @ query / 2)[1:]
    np.testing.assert_allclose(rows[0, head], expected, atol=1e-6)
