"""Tests of what is known of accelerators."""

import pytest

from hseg_jax.bench import peaks


@pytest.mark.parametrize(
  ("kind", "dtype", "tera"),
  [
    ("NVIDIA H100 80GB HBM3", "bfloat16", 989),
    ("NVIDIA H100 PCIe", "bfloat16", 756),
    ("NVIDIA H200", "float32", 494),
    ("NVIDIA A100-SXM4-40GB", "bfloat16", 312),
    ("TPU v4", "bfloat16", 275),
    ("TPU v5 lite", "bfloat16", 197),
    ("TPU v5", "bfloat16", 459),
    ("TPU v6 lite", "bfloat16", 918),
  ],
)
def test_known_accelerators(kind, dtype, tera):
  assert peaks.find(kind, dtype) == tera * 1e12


@pytest.mark.parametrize(("kind", "dtype"), [("cpu", "float32"), ("TPU v4", "float32")])
def test_what_nobody_knows(kind, dtype):
  assert peaks.find(kind, dtype) is None
