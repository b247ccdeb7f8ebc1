"""`hseg bench input` on PartWorld: lines, and that the same images are decoded."""

import concurrent.futures
import json
import threading

import pytest
import tiny_run

from hseg_jax import cli
from hseg_jax.bench import input
from hseg_jax.data import pipeline, sources
from hseg_jax.data.stream import order
from hseg_jax.errors import UserError


def test_two_lines(tmp_path, monkeypatch):
  decoded, waited = [], []
  monkeypatch.setattr(input, "wait_for_threads", lambda longest: waited.append(len(decoded)))
  decode = input._decode
  monkeypatch.setattr(input, "_decode", lambda *a: decoded.append(a[-1]) or decode(*a))
  settings = tiny_run.config("supervised", superpixels__method="none").to_dict()
  out = tmp_path / "lines.jsonl"
  records = input.measure(settings, num_batches=1, repeats=1, out=out)
  assert [json.loads(line) for line in out.read_text().splitlines()] == records
  pipeline, decoding = records
  assert (pipeline["model"], decoding["model"]) == ("pipeline", "decoding")
  assert pipeline["images_per_s"] == pytest.approx(8 / pipeline["median_s"])
  ratio = pipeline["times_as_fast"]["decoding"]
  assert ratio == pytest.approx(decoding["median_s"] / pipeline["median_s"])
  assert (pipeline["workers"], pipeline["augment"], pipeline["superpixels"]) == (
    0,
    "supervised",
    "none",
  )
  # Four batches of eight are taken ahead.
  assert decoded == [[order(32, settings["seed"], range(32, 40))]]
  assert waited == [0]  # before anything was decoded


def test_threads_have_equal_shares(monkeypatch):
  decoded, together = [], threading.Barrier(2, timeout=60)

  def decode(pool, source, shares):
    list(pool.map(lambda share: (decoded.append(share), together.wait()), shares))

  monkeypatch.setattr(input, "_decode", decode)
  monkeypatch.setattr(pipeline, "_IMAGES_AT_ONCE", 16)  # two batches
  options = {"data__augment_on": "device", "data__num_workers": 2}
  settings = tiny_run.config("supervised", superpixels__method="none", **options).to_dict()
  records = input.measure(settings, num_batches=3, repeats=1)
  assert [record["num_batches"] for record in records] == [4, 4]  # two of each worker
  wanted = order(32, settings["seed"], range(128, 160))  # eight of each are taken ahead
  assert decoded in ([wanted[::2], wanted[1::2]], [wanted[1::2], wanted[::2]])


def test_shares_are_decoded_whole_each_in_a_thread():
  together = threading.Barrier(2, timeout=60)
  threads = {0: [], 1: []}

  class Images:
    class_names = ()

    def __len__(self):
      return 6

    def __getitem__(self, index):
      together.wait()  # for the other thread
      threads[index % 2].append((index, threading.get_ident()))
      return {}

  source = sources.Source(Images(), max_bad_images=0)
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    input._decode(pool, source, [[0, 2, 4], [1, 3, 5]])
    assert [[index for index, _ in found] for found in threads.values()] == [[0, 2, 4], [1, 3, 5]]
  assert len({thread for found in threads.values() for _, thread in found}) == 2


def test_numbers_have_to_be_positive():
  for name in ("num_batches", "repeats"):
    with pytest.raises(UserError, match=f"{name} is 0"):
      input.measure({}, **{name: 0})


def test_configs_come_by_name(capsys):
  assert cli.main(["bench", "input", "--config", "absent.py"]) == 2
  assert "absent.py" in capsys.readouterr().err
