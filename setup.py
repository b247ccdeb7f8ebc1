"""Packaging of hseg_jax: ranges here, the tested pins in requirements.txt."""

import pathlib

import setuptools

ROOT = pathlib.Path(__file__).parent
README = ROOT / "README.md"

setuptools.setup(
  name="hseg_jax",
  version="0.1.0",
  description="Vision models that segment an image into a hierarchy of parts and wholes while they "
  "recognise it, in JAX.",
  long_description=README.read_text(encoding="utf-8") if README.exists() else "",
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=setuptools.find_packages(include=["hseg_jax", "hseg_jax.*"]),
  package_data={"hseg_jax": ["viz/*.html", "weights/*/*"]},
  entry_points={"console_scripts": ["hseg = hseg_jax.cli:main"]},
  install_requires=[
    "absl-py>=2.1",
    "jax>=0.10",
    "flax>=0.12",
    "optax>=0.2.5",
    "orbax-checkpoint>=0.11.30",
    "grain>=0.2.14",
    "tensorflow-datasets>=4.9.8",
    "array-record>=0.8",
    "importlib-resources",  # tensorflow-datasets reads its own metadata through it
    "ml-collections>=1.0",
    "clu>=0.0.12",
    "tensorflow-cpu>=2.20",  # clu's writers and tensorflow-datasets' builders
    "tensorboard>=2.20",
    "opencv-contrib-python-headless>=4.11",
    "numpy>=2.0",
    "scipy>=1.14",
    "scikit-image>=0.25",
    "scikit-learn>=1.5",
    "pillow>=11",
    "simplejpeg>=1.9",  # decodes most JPEGs; Pillow the others, and all else
    "matplotlib>=3.9",
    "safetensors>=0.5",
    "ml-dtypes>=0.4",  # bfloat16 tensors in safetensors files
    "pyyaml>=6",  # Segmenter's settings
    "jaxtyping>=0.3",
    "flatbuffers>=24.3",  # jax.export serializes with it
  ],
  extras_require={
    "gpu": ["jax[cuda12]>=0.10"],
    "tpu": ["jax[tpu]>=0.10"],
    "torch": ["torch>=2.6"],  # reads .pth files for hseg import-torch
    "clip": ["open_clip_torch>=3.0"],  # labels segments by text in the part_whole evaluator
    "peer": ["torch>=2.6", "timm>=1.0"],  # models to compare with in hseg bench
    "hub": ["huggingface_hub>=1.0"],  # weights from and to the Hugging Face hub
    "dev": [
      "pytest>=8",
      "pytest-xdist>=3.7",
      "beartype>=0.20",
      "huggingface_hub>=1.0",
      "playwright>=1.50",  # drives the Chromium that is installed; tests skip where there is none
      "ruff>=0.14",
    ],
  },
)
