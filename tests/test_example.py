"""The example notebook runs from top to bottom, and shows what it says it shows."""

import ast
import io
import json
import pathlib

import numpy as np
from PIL import Image

from hseg_jax.hierarchy import Hierarchy

NOTEBOOK = pathlib.Path(__file__).parent.parent / "docs" / "example.ipynb"


def run(source, names):
  """Runs a cell as a notebook does, and returns the value of the expression it ends with."""
  body = ast.parse(source).body
  last = body.pop() if isinstance(body[-1], ast.Expr) else None
  exec(compile(ast.Module(body, []), "cell", "exec"), names)
  return last and eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_every_cell_runs_and_shows_its_picture(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  cells = [
    cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"
  ]
  names, shown = {}, []
  for cell in cells:
    value = run("".join(cell["source"]), names)
    picture = getattr(value, "_repr_png_", lambda: None)()
    # The notebook was run before it was stored, and has pictures where there are such now.
    stored = {kind for output in cell["outputs"] for kind in output["data"]}
    assert stored == ({"text/plain"} if value is not None else set()) | (
      {"image/png"} if picture else set()
    )
    shown += [np.asarray(Image.open(io.BytesIO(picture)))] if picture else []
  image, levels, panel, cut, _ = shown
  assert image.shape == cut.shape == (192, 192, 3) and panel.shape[1] > 6 * 192 > levels.shape[1]
  assert len(np.unique(cut.reshape(-1, 3), axis=0)) == 10
  assert Hierarchy.load("drawing.npz").sizes == names["hierarchy"].sizes
  assert pathlib.Path("explorer.html").stat().st_size > 10_000
