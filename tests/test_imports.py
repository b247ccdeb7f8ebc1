"""Who may import whom, and that importing anything starts no backend."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "hseg_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
NO_JAX = (
  *("data", "scoring", "viz", "baselines", "benchmarks", "superpixels/seeds", "superpixels/grid"),
  *("hierarchy", "label_maps", "region_graph", "regions", "files", "images", "inputs"),
  *("model_input", "processes", "progress", "vocabulary", "score", "reports", "compare"),
  *("score_arguments", "bench_arguments", "image_arguments", "argument_types", "compilations"),
)


def name_of(path):
  return str(path.relative_to(PACKAGE))


@functools.cache
def nodes_of(path):
  return tuple(ast.walk(ast.parse(path.read_text())))


@functools.cache
def imports_of(path):
  """Every module that a file names in an import, wherever it stands."""
  found = set()
  for node in nodes_of(path):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
  return found


def files_importing(prefix):
  inside = lambda module: module == prefix or module.startswith(f"{prefix}.")
  return {name_of(path) for path in FILES if any(map(inside, imports_of(path)))}


def test_each_third_party_seam_is_one_file():
  assert files_importing("orbax") == {"training/checkpoint.py"}
  assert files_importing("clu") == {"training/workdir.py"}
  assert files_importing("grain") == {"data/pipeline.py"}
  assert files_importing("optax") <= {
    "training/optim.py",
    "training/state.py",
    "objectives/supervised.py",
    "objectives/contrastive.py",
    "experiment.py",
    "train.py",
  }
  assert files_importing("safetensors") == {"interop/exported.py"}
  assert files_importing("huggingface_hub") == {"interop/hub.py"}
  assert files_importing("open_clip") == {"interop/image_text.py"}
  assert files_importing("jax.export") == {"interop/stablehlo.py"}


def test_flax_stays_inside_the_models():
  outside = {name for name in files_importing("flax") if not name.startswith("models/")}
  assert outside == {"training/state.py", "objectives/contrastive.py"}  # for flax.struct


def test_only_one_file_builds_a_mesh():
  calls = {
    name_of(path)
    for path in FILES
    for node in nodes_of(path)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("make_mesh", "Mesh"))
    if ast.unparse(node.func).startswith("jax")
  }
  assert calls == {"training/sharding.py"}
  assert files_importing("jax.sharding.Mesh") | files_importing("jax.make_mesh") <= calls


def test_config_dicts_stay_at_the_door():
  assert files_importing("ml_collections") == {"config_file.py"}


@pytest.mark.parametrize("part", NO_JAX)
def test_parts_without_jax(part):
  offenders = {
    name
    for name in files_importing("jax") | files_importing("hseg_jax.models")
    if name == f"{part}.py" or name.startswith(f"{part}/")
  }
  assert offenders == set()


def test_models_know_nothing_of_data_or_training():
  for part in ("data", "training", "objectives", "evaluators", "superpixels"):
    assert not {n for n in files_importing(f"hseg_jax.{part}") if n.startswith("models/")}, part


def run(code):
  result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert result.returncode == 0, result.stderr


def test_importing_every_module_starts_no_backend():
  modules = [
    "hseg_jax." + name_of(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    for path in FILES
    if path.name != "__init__.py" or path.parent != PACKAGE
  ]
  run(
    "import importlib\n"
    f"for name in {modules}: importlib.import_module(name)\n"
    "from jax._src import xla_bridge\n"
    "assert not xla_bridge.backends_are_initialized()"
  )


def test_the_package_itself_imports_no_jax():
  run("import sys, hseg_jax\nassert 'jax' not in sys.modules and 'flax' not in sys.modules")


def test_exported_weights_load_without_jax(tmp_path):
  import numpy as np

  from hseg_jax.interop import exported

  variables = {"params": {"head": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}}
  exported.save(tmp_path, variables, {"name": "cast_tiny"})
  run(
    "import sys\n"
    "for name in ('jax', 'flax', 'tensorflow', 'orbax'): sys.modules[name] = None\n"
    "import hseg_jax\n"
    f"flat, info = hseg_jax.load_exported({str(tmp_path)!r})\n"
    "assert info == {'name': 'cast_tiny'} and list(flat) == ['params/head/kernel']\n"
    "assert flat['params/head/kernel'].tolist() == [[0, 1, 2], [3, 4, 5]]"
  )
