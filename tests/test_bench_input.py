"""`hseg bench input`: lines, and that the same images are decoded, by several decoders."""

import concurrent.futures
import io
import json
import os
import struct
import threading

import numpy as np
import pytest
import tiny_run
from PIL import Image

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


def test_shares_are_decoded_each_in_a_thread():
  together = threading.Barrier(2, timeout=60)
  threads = {0: [], 1: []}

  def decode(index):
    together.wait()  # for the other thread
    threads[index % 2].append((index, threading.get_ident()))

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    input._decode(pool, decode, [[0, 2, 4], [1, 3, 5]])
    assert [[index for index, _ in found] for found in threads.values()] == [[0, 2, 4], [1, 3, 5]]
  assert len({thread for found in threads.values() for _, thread in found}) == 2


def test_files_are_decoded_by_others_too(tmp_path, monkeypatch):
  """All decoders get the files of the batches that were timed."""
  for split in ("train", "val"):
    (tmp_path / split / "ant").mkdir(parents=True)
    for i in range(8):
      path = tmp_path / split / "ant" / f"{i}.jpg"
      Image.fromarray(np.full((40, 50, 3), i, np.uint8)).save(path)
  (tmp_path / "train" / "ant" / "3.jpg").write_bytes(b"no image")
  read = {"_by_opencv": [], "_by_pillow": []}
  for name, files in read.items():
    monkeypatch.setattr(input, name, files.append)
  options = {"data__source": "folder", "data__root": str(tmp_path), "data__num_train": 4}
  options |= {"data__num_val": None, "data__max_bad_images": 1}
  settings = tiny_run.config("contrastive", superpixels__method="none", **options).to_dict()
  records = input.measure(settings, num_batches=1, repeats=2)
  assert [record["model"] for record in records] == ["pipeline", "decoding", "opencv", "pillow"]
  assert set(records[0]["times_as_fast"]) == {"decoding", "opencv", "pillow"}
  wanted = [f"{tmp_path}/train/ant/{i}.jpg" for i in (0, 2, 4, 6)]  # each twice in a batch of eight
  assert all(sorted(files) == sorted(4 * wanted) for files in read.values())


def test_the_pipelines_decoder_makes_examples():
  source = sources.load(
    "partworld", name="", root="", split="train", image_size=32, seed=0, max_bad_images=0
  )
  (decode,) = input._decoders(source).values()
  np.testing.assert_array_equal(decode(3)["image"], source[3]["image"])


@pytest.mark.parametrize("decode", [input._by_opencv, input._by_pillow])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_others_decode_to_rgb(decode, mode, tmp_path):
  image = Image.fromarray(np.full((4, 5, 3), (200, 100, 50), np.uint8)).convert(mode)
  path = os.path.join(os.fsencode(tmp_path), b"\xe9.jpg")  # not UTF-8
  image.save(path)
  with open(path, "rb") as stream:
    content = io.BytesIO(stream.read())
  for file in (os.fsdecode(path), content):
    found = decode(file)
    assert found.shape == (4, 5, 3) and np.abs(found - np.asarray(image.convert("RGB"))).max() < 3


@pytest.mark.parametrize("decode", [input._by_opencv, input._by_pillow])
def test_others_pass_over_what_they_cannot_read(decode, tmp_path):
  file = io.BytesIO()
  Image.new("L", (8, 8)).save(file, format="png")
  huge = file.getvalue().replace(struct.pack(">II", 8, 8), struct.pack(">II", 60_000, 60_000))
  for data in (b"", b"no image", huge):
    assert decode(io.BytesIO(data)) is None
  assert decode(str(tmp_path / "missing.jpg")) is None


def test_numbers_have_to_be_positive():
  for name in ("num_batches", "repeats"):
    with pytest.raises(UserError, match=f"{name} is 0"):
      input.measure({}, **{name: 0})


def test_configs_come_by_name(capsys):
  assert cli.main(["bench", "input", "--config", "absent.py"]) == 2
  assert "absent.py" in capsys.readouterr().err
