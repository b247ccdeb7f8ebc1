"""Vision models that segment an image into parts and wholes while they recognise it.

The names below are loaded on first use, so that `import hseg_jax` imports no jax.
"""

import importlib

__version__ = "0.1.0"

_LAZY = {
  "create_model": "hseg_jax.models",
  "load_exported": "hseg_jax.interop.exported",
  "Segmenter": "hseg_jax.segment",
  "Hierarchy": "hseg_jax.hierarchy",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str):
  if name not in _LAZY:
    raise AttributeError(f"module 'hseg_jax' has no attribute {name!r}")
  return getattr(importlib.import_module(_LAZY[name]), name)
