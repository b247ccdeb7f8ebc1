"""The report page: self-contained, complete, and honest about who wins."""

import html
import html.parser
import json
import re

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.viz import report

CONFIG = {
  "seed": 3,
  "model": {"name": "cast_tiny", "dim": 8},
  "data": {"name": "", "source": "part"},
}
SCORES = {
  "level_0/covering": 0.1,
  "level_1/covering": 0.31,
  "level_2/covering": 0.42,
  "best/covering": 0.45,
  "grid/8/covering": 0.33,
  "grid/4/covering": 0.25,
  "grid/best/covering": 0.35,
}


@pytest.fixture
def workdir(tmp_path):
  lines = [{"step": s, "train/loss": 3 / (s + 1), "val/top1": s / 20} for s in (0, 10, 12)]
  lines[-1] |= {f"val/hierarchy/{name}": value for name, value in SCORES.items()}
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (tmp_path / "metrics.jsonl").write_text(text + '{"step": 13, "train/lo')
  (tmp_path / "config.json").write_text(json.dumps(CONFIG))
  return tmp_path


@pytest.fixture
def example():
  image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
  labels = np.kron([[0, 1], [2, 3]], np.ones((4, 4), int))
  hierarchy = Hierarchy.from_labels([labels, labels // 2])
  return report.Example(image, hierarchy, "cat & <dog>", "bird")


class Page(html.parser.HTMLParser):
  """Collects what a page links to and checks that its tags close."""

  VOID = {"meta", "img", "path", "polyline", "input"}

  def __init__(self, text):
    super().__init__()
    self.links, self.open, self.text = [], [], ""
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.links += [v for k, v in attributes if k in ("src", "href", "srcset", "action")]
    self.open += [] if tag in self.VOID else [tag]

  def handle_startendtag(self, tag, attributes):
    self.links += [v for k, v in attributes if k in ("src", "href")]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += f" {data}"


def without_frames(text):
  """A page without the pages inside it, and those."""
  frame = re.compile(r'<iframe[^>]* srcdoc="([^"]*)"></iframe>')
  return frame.sub("", text), [html.unescape(page) for page in frame.findall(text)]


def rows(text, title):
  """Cells of the table below a heading, by the first cell of each row."""
  table = re.search(rf"<h3>{title}</h3><table>(.*?)</table>", text).group(1)
  lines = [re.findall(r"<t[hd]>(.*?)</t[hd]>", line) for line in table.split("</tr>") if line]
  return {cells[0]: cells[1:] for cells in lines}


def test_page_needs_nothing_but_itself(workdir, example):
  path = report.write(workdir, examples=[example, example], facts={"commit": "abc<1>"})
  assert path == workdir / "report.html"
  text, frames = without_frames(path.read_text())
  page = Page(text)
  assert page.open == []
  assert len(page.links) == 6 and all(link.startswith("data:image/png;") for link in page.links)
  assert "url(" not in text and "<script" not in text and "$" not in text
  assert text.count("prefers-color-scheme: dark") == 1 and "width=device-width" in text
  assert len(frames) == 1 and Page(frames[0]).open == [] and Page(frames[0]).links == []


def test_explorer_has_the_held_out_images(workdir, example):
  named = example._replace(label="", class_names=("bird", "</script>"))
  hierarchy = Hierarchy(example.hierarchy.segments, probabilities=np.array([0.2, 0.8], "f4"))
  examples = [example, named._replace(hierarchy=hierarchy)]
  _, [frame] = without_frames(report.write(workdir, examples=examples, facts={}).read_text())
  assert "<h1></h1>" in frame and frame.count("</script>") == 2
  entries = json.loads(re.search(r'id="data">(.*?)</script>', frame).group(1))
  assert [entry["name"] for entry in entries] == ["cat & <dog>", "image 2"]
  assert [entry["classes"] for entry in entries] == [[], [["</script>", 0.8], ["bird", 0.2]]]


def test_page_tells_scores_facts_and_config(workdir, example):
  text = report.write(workdir, examples=[example], facts={"commit": "abc<1>"}).read_text()
  words = " ".join(Page(text).text.split())
  for expected in ("cast_tiny on part", "after 12 steps", "0.600 top1", "seed 3", "commit abc<1>"):
    assert expected in words
  assert "model.dim 8" in words and "cat & <dog>" in words and "predicted bird" in words
  assert "UTC" in words and "CPU cores" in words and "2 regions" in words
  assert rows(text, "Covering") == {
    "": ["8", "4", "best"],
    "cast_tiny": ["0.310", "<b>0.420</b>", "<b>0.450</b>"],
    "grid": ["<b>0.330</b>", "0.250", "0.350"],
  }


def test_a_vit_is_scored_by_its_kmeans(workdir):
  lines = {
    f"val/hierarchy/{k}": v for k, v in (("kmeans/8/covering", 0.5), ("kmeans/best/covering", 0.6))
  }
  (workdir / "metrics.jsonl").write_text(json.dumps({"step": 0, **lines}))
  text = report.write(workdir, examples=[], facts={}).read_text()
  assert rows(text, "Covering")["cast_tiny"] == ["<b>0.500</b>", "<b>0.600</b>"]
  assert "0.600 kmeans best covering" in " ".join(Page(text).text.split())


def test_page_without_hierarchies_has_no_empty_sections(workdir):
  lines = [json.dumps({"step": s, "train/loss": 1.0}) for s in (0, 1)]
  (workdir / "metrics.jsonl").write_text("\n".join(lines))
  text = report.write(workdir, examples=[], facts={}).read_text()
  assert "Held-out" not in text and "<iframe" not in text and "How regions" not in text
  assert "train/loss" in text and Page(text).open == []


def test_refuses_a_folder_without_a_run(tmp_path):
  with pytest.raises(UserError, match="config.json"):
    report.write(tmp_path, examples=[], facts={})


def test_reads_metrics_in_order_and_the_last_word_counts(workdir):
  with (workdir / "metrics.jsonl").open("w") as file:
    for line in (
      '{"step": 4, "a": 1.0}',
      '{"step": 2, "a": 5.0, "b": 0}',
      '{"step": 4, "a": 2.0}',
      "{",
    ):
      file.write(line + "\n")
  assert report.read_metrics(workdir / "metrics.jsonl") == {
    "a": [(2, 5.0), (4, 2.0)],
    "b": [(2, 0)],
  }
