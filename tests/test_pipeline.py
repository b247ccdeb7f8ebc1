"""The pipeline: batches are a function of the step, whatever the number of hosts and workers."""

import multiprocessing
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from hseg_jax.data import pipeline, sources, stream, transforms
from hseg_jax.errors import UserError
from hseg_jax.superpixels import grid, seeds

SEEDS = {"method": "seeds", "num_segments": 16, "bins": 5, "iterations": 2}
NONE = {"method": "none"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
  """Eleven photographs-to-be of two classes and of different sizes; the blue corner tells which."""
  root = tmp_path_factory.mktemp("images")
  rng = np.random.default_rng(0)
  for i in range(11):
    folder = root / "train" / f"class_{i % 2}"
    folder.mkdir(parents=True, exist_ok=True)
    coarse = rng.integers(0, 256, (5, 5, 3), np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((40 + i, 36), Image.Resampling.BICUBIC))
    Image.fromarray(image).save(folder / f"{i:02}.png")
  return root


def load(tree, **options):
  defaults = {"name": "", "root": str(tree), "split": "train", "image_size": 32, "seed": 0}
  return sources.load("folder", **{**defaults, "max_bad_images": 0, **options})


def train(source, steps, **options):
  defaults = {
    "batch_size": 4,
    "image_size": 32,
    "augment": "supervised",
    "superpixels": SEEDS,
    "seed": 1,
    "start_step": 0,
    "num_workers": 0,
  }
  batches = pipeline.train_batches(source, **{**defaults, **options})
  taken = [next(batches) for _ in range(steps)]
  batches.close()
  return taken


def evaluate(source, **options):
  defaults = {"batch_size": 4, "image_size": 32, "superpixels": SEEDS, "num_workers": 0}
  return list(pipeline.eval_batches(source, **{**defaults, **options}))


def assert_equal(actual, expected):
  assert len(actual) == len(expected)
  for a, b in zip(actual, expected, strict=True):
    assert a.keys() == b.keys()
    for key in a:
      np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def joined(hosts):
  """The hosts' batches, in order, as one batch per step."""
  steps = zip(*hosts, strict=True)
  return [{key: np.concatenate([b[key] for b in step]) for key in step[0]} for step in steps]


def test_batches_have_the_promised_arrays(tree):
  batch = train(load(tree), 1)[0]
  kinds = {key: (value.dtype, value.shape, type(value)) for key, value in batch.items()}
  assert kinds == {
    "image": (np.uint8, (4, 32, 32, 3), np.ndarray),
    "segments": (np.int32, (4, 32, 32), np.ndarray),
    "label": (np.int32, (4,), np.ndarray),
  }
  views = train(load(tree), 1, augment="moco")[0]
  assert set(views) == {"image_1", "segments_1", "image_2", "segments_2", "label"}
  assert set(train(load(tree), 1, superpixels=NONE)[0]) == {"image", "label"}


@pytest.mark.parametrize("augment", ["none", "supervised", "moco"])
def test_superpixels_are_those_of_the_augmented_image(tree, augment):
  for batch in train(load(tree), 2, augment=augment):
    for key in [key for key in batch if key.startswith("image")]:
      for image, segments in zip(batch[key], batch[key.replace("image", "segments")], strict=True):
        np.testing.assert_array_equal(segments, seeds.segment(image, 16, bins=5, iterations=2))


def test_grid_superpixels(tree):
  batch = train(load(tree), 1, superpixels={**SEEDS, "method": "grid"})[0]
  np.testing.assert_array_equal(batch["segments"][0], grid.segment(batch["image"][0], 16))


@pytest.mark.parametrize("host_count", [2, 4])
def test_hosts_share_the_single_hosts_batch(tree, host_count):
  source = load(tree)
  hosts = [train(source, 5, host_index=i, host_count=host_count) for i in range(host_count)]
  assert_equal(joined(hosts), train(source, 5))


def test_workers_change_nothing(tree):
  source = load(tree)
  assert_equal(train(source, 5, num_workers=2, start_step=1), train(source, 6)[1:])


def test_starting_at_a_step_equals_skipping_to_it(tree):
  source = load(tree)
  whole = train(source, 8)
  assert_equal(train(source, 4, start_step=4), whole[4:])
  second = train(source, 8, host_index=1, host_count=2)
  assert_equal(train(source, 3, start_step=5, host_index=1, host_count=2), second[5:])


def test_order_and_augmentation_depend_on_seed_and_epoch(tree):
  source = load(tree)
  epochs = train(source, 2, batch_size=11, augment="none")
  images = [{image.tobytes() for image in batch["image"]} for batch in epochs]
  assert images[0] == images[1] and len(images[0]) == 11  # each example once an epoch
  assert not np.array_equal(epochs[0]["image"], epochs[1]["image"])  # in another order
  other = train(source, 1, batch_size=11, augment="none", seed=2)[0]
  assert not np.array_equal(epochs[0]["image"], other["image"])
  augmented = np.concatenate([b["image"] for b in train(source, 4, batch_size=11)])
  assert len({image.tobytes() for image in augmented}) == 44
  one = load(tree, num_examples=1)
  first, second = (train(one, 1, seed=seed)[0]["image"] for seed in (1, 2))
  assert not np.array_equal(first, second)


def test_another_process_makes_the_same_batch(tree):
  """Guards against anything that varies from process to process, such as hashes of strings."""
  program = f"""
import numpy as np, zlib
from hseg_jax.data import pipeline, sources
source = sources.load("folder", name="", root={str(tree)!r}, split="train", image_size=32, seed=0,
                      max_bad_images=0)
batches = pipeline.train_batches(source, batch_size=4, image_size=32, augment="moco",
  superpixels={SEEDS!r}, seed=1, start_step=3, num_workers=0)
batch = next(batches)
print(*(zlib.crc32(batch[key].tobytes()) for key in sorted(batch)))
"""
  result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
  batch = train(load(tree), 1, augment="moco", start_step=3)[0]
  assert result.stdout.split() == [str(zlib.crc32(batch[key].tobytes())) for key in sorted(batch)]


def test_augmentation_options_are_passed_on(tree):
  source = load(tree)
  plain = {"min_scale": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
  batch = train(source, 1, augment_options=plain)[0]
  assert not np.array_equal(batch["image"], train(source, 1)[0]["image"])
  with pytest.raises(UserError, match=r'"supervised" has no option "blur".*min_scale'):
    train(source, 1, augment_options={"blur": 1})
  with pytest.raises(UserError, match='"none" has no option "min_scale"'):
    train(source, 1, augment="none", augment_options={"min_scale": 1.0})


def test_canvases_hold_decoded_images_and_their_crops(tree):
  source = load(tree)
  options = {"superpixels": NONE, "canvas_size": 44, "augment_options": {"min_scale": 0.3}}
  batches = train(source, 6, **options)
  kinds = {key: (value.dtype, value.shape) for key, value in batches[0].items()}
  assert kinds == {
    "canvas": (np.uint8, (4, 44, 44, 3)),
    "boxes": (np.float32, (4, 1, 4)),
    "seed": (np.uint32, (4, 2)),
    "label": (np.int32, (4,)),
  }
  source_images = [source[i]["image"] for i in stream.order(11, 1, range(24))]
  shares, fitting = [], 0
  for i, image in enumerate(source_images):
    canvas, (box,) = batches[i // 4]["canvas"][i % 4], batches[i // 4]["boxes"][i % 4]
    if image.shape[1] <= 44:
      fitting += 1
      np.testing.assert_array_equal(canvas[: image.shape[0], : image.shape[1]], image)
    else:  # one of its crops, and no more
      part = cut(canvas, box)
      found = np.lib.stride_tricks.sliding_window_view(image, part.shape)
      assert (found == part).all(axis=(3, 4, 5)).any() and tuple(box[:2]) == (0, 0)
    shares.append(box[2] * box[3] / image[..., 0].size)
  assert 0 < fitting < 24 and 0.29 < min(shares) < 0.45 and 0.7 < max(shares) <= 1
  plain = train(source, 6, superpixels=NONE, augment="none")
  np.testing.assert_array_equal(batches[0]["label"], plain[0]["label"])
  default, stated, other = (
    train(source, 1, superpixels=NONE, canvas_size=44, augment_options=options)[0]["boxes"]
    for options in ({}, {"min_scale": transforms.MIN_SCALE}, {"min_scale": 0.5})
  )
  assert (default == stated).all() and (default != other).any()
  assert len({seed.tobytes() for batch in batches for seed in batch["seed"]}) == 24
  assert len({box.tobytes() for batch in batches for box in batch["boxes"]}) == 24


@pytest.mark.parametrize("augment", ["supervised", "moco"])
def test_what_is_on_canvases_is_a_function_of_the_position(tree, augment):
  """Beside the crops they hold anything."""
  options = {"superpixels": NONE, "canvas_size": 40, "augment": augment}
  batches = on_canvases(train(load(tree), 6, **options))
  assert batches[0]["boxes"].shape == (4, 1 if augment == "supervised" else 2, 4)
  later = on_canvases(train(load(tree), 5, **options, num_workers=2, start_step=1))
  assert_equal(later, batches[1:])
  hosts = [train(load(tree), 6, **options, host_index=i, host_count=2) for i in range(2)]
  assert_equal(on_canvases(joined(hosts)), batches)
  other = train(load(tree), 1, **options, seed=2)[0]
  for name in ("seed", "boxes"):
    assert not np.array_equal(other[name], batches[0][name])


def test_two_views_are_different_crops_of_one_image(tree):
  options = {"superpixels": NONE, "canvas_size": 60, "augment": "moco"}
  first, second = np.moveaxis(train(load(tree), 1, **options)[0]["boxes"], 1, 0)
  assert (first != second).any(axis=1).all()


def test_crops_are_shrunk_no_further_than_images_need(tree):
  options = {"superpixels": NONE, "canvas_size": 30, "augment_options": {"min_scale": 1.0}}
  sides = {
    image_size: train(load(tree), 3, **options, image_size=image_size)[0]["boxes"][..., 2:].max()
    for image_size in (16, 32)
  }
  assert sides[16] <= 25 and sides[32] == 30  # halves, or as large as canvases are


def on_canvases(batches):
  """The batches with what is inside of the crops, one after the other, instead of the canvases."""
  parts = lambda batch: [
    cut(canvas, box).ravel()
    for canvas, boxes in zip(batch["canvas"], batch["boxes"], strict=True)
    for box in boxes
  ]
  return [{**batch, "canvas": np.concatenate(parts(batch))} for batch in batches]


def cut(canvas, box):
  """The pixels whose centres a box holds."""
  top, left, bottom, right = np.ceil([*box[:2], *(box[:2] + box[2:])] - np.float32(0.5)).astype(int)
  height, width = bottom - top, right - left
  return canvas[top : top + height, left : left + width]


def test_evaluation_yields_every_example_once_in_order(tree):
  source = load(tree)
  batches = evaluate(source)
  assert [len(batch["image"]) for batch in batches] == [4, 4, 4]
  assert set(batches[0]) == {"image", "segments", "label", "valid"}
  valid = np.concatenate([batch["valid"] for batch in batches])
  np.testing.assert_array_equal(valid, np.arange(12) < 11)
  labels = np.concatenate([batch["label"] for batch in batches])[valid]
  np.testing.assert_array_equal(labels, [source[i]["label"] for i in range(11)])
  images = np.concatenate([batch["image"] for batch in batches])[valid]
  assert len({image.tobytes() for image in images}) == 11
  segments = np.concatenate([batch["segments"] for batch in batches])
  np.testing.assert_array_equal(segments[2], seeds.segment(images[2], 16, bins=5, iterations=2))


@pytest.mark.parametrize("num_examples", [11, 8, 1])
@pytest.mark.parametrize("host_count", [2, 4])
def test_evaluating_hosts_share_the_single_hosts_batches(tree, host_count, num_examples):
  source = load(tree, num_examples=num_examples)
  options = {"superpixels": NONE, "host_count": host_count}
  hosts = [evaluate(source, **options, host_index=i) for i in range(host_count)]
  assert_equal(joined(hosts), evaluate(source, superpixels=NONE))
  assert sum(batch["valid"].sum() for host in hosts for batch in host) == num_examples


def test_evaluating_workers_change_nothing(tree):
  source = load(tree)
  assert_equal(evaluate(source, num_workers=2), evaluate(source))


def test_masks_are_kept_on_request():
  options = dict(name="", root="", split="val", image_size=32, seed=0, num_examples=3)
  source = sources.load("partworld", **options, max_bad_images=0)
  (batch,) = evaluate(source, keep=("label", "object", "parts"))
  assert batch["object"].dtype == bool and batch["parts"].dtype == np.uint8
  for i in range(3):
    for key in ("image", "object", "parts"):
      np.testing.assert_array_equal(batch[key][i], source[i][key])
  assert "parts" not in evaluate(source)[0]


def test_missing_masks_are_refused(tree):
  with pytest.raises(UserError, match='no "parts"'):
    evaluate(load(tree), keep=("parts",))


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"augment": "mixup"}, 'Unknown data.augment "mixup"; choose one of none, supervised, moco'),
    ({"superpixels": {"method": "slic"}}, 'Unknown superpixels.method "slic"; choose "seeds"'),
    ({"batch_size": 6, "host_count": 4}, "6 cannot be shared equally by 4 hosts"),
    ({"batch_size": 0}, "batch size 0"),
    ({"augment": "none", "canvas_size": 40}, 'nothing to do; set data.augment_on="host"'),
  ],
)
def test_mistakes_are_refused_before_any_work(tree, options, words):
  with pytest.raises(UserError, match=words):
    train(load(tree), 0, **options)


def test_options_are_refused_before_there_is_a_source():
  options = {"image_size": 32, "augment_options": {}, "superpixels": NONE, "canvas_size": 40}
  pipeline.check_options(augment="moco", **options)
  with pytest.raises(UserError, match='data.augment="none" leaves the device nothing to do'):
    pipeline.check_options(augment="none", **options)


@pytest.fixture
def damaged(tree, tmp_path):
  for c in range(2):
    (tmp_path / "train" / f"class_{c}").mkdir(parents=True)
  for i, file in enumerate(sorted(tree.glob("train/*/*.png"))):
    data = file.read_bytes()
    (tmp_path / "train" / file.parent.name / file.name).write_bytes(data[:100] if i < 3 else data)
  return tmp_path


def test_unreadable_images_are_replaced_and_reported_by_workers(damaged, capfd):
  options = {"superpixels": NONE, "augment": "none"}
  taken = train(load(damaged, max_bad_images=3), 8, **options, num_workers=2)
  warned = [line for line in capfd.readouterr().err.splitlines() if "takes its place" in line]
  assert len(warned) == 3 and all("train/class_0/0" in line for line in warned)
  assert_equal(taken, train(load(damaged, max_bad_images=3), 8, **options))


@pytest.mark.parametrize(
  ("host_batch", "canvas_size", "count"),
  [
    (64, None, 1),
    (64, 64, 4),
    (64, 146, 4),
    (64, 296, 1),
    (256, 64, 1),
    (999, 64, 1),
    (8, 64, 32),
    (100, 64, 2),
  ],
)
def test_small_batches_are_made_together(host_batch, canvas_size, count):
  assert pipeline.at_once(host_batch, canvas_size) == count


def test_canvases_serve_again(tree, monkeypatch):
  monkeypatch.setattr(pipeline, "_IMAGES_AT_ONCE", 8)
  options = {"superpixels": NONE, "augment": "supervised", "canvas_size": 40, "num_workers": 2}
  options |= {"batch_size": 4, "image_size": 32, "seed": 1, "start_step": 0}
  batches = pipeline.train_batches(load(tree), **options)
  kept = [next(batches) for _ in range(3)]
  copies = [batch["canvas"].copy() for batch in kept]
  used = {next(batches)["canvas"].__array_interface__["data"][0] for _ in range(60)}
  assert len(used) < 20  # about as many as are prepared ahead
  kept += [next(batches) for _ in range(3)]  # in memory that served before
  copies += [batch["canvas"].copy() for batch in kept[3:]]
  for _ in range(21):  # half of those that were made together
    next(batches)
  batches.close()
  assert next(batches, None) is None
  for batch, copy in zip(kept, copies, strict=True):
    np.testing.assert_array_equal(batch["canvas"], copy)


def test_canvases_cross_no_processes(tree):
  options = {"superpixels": NONE, "augment": "supervised", "canvas_size": 40, "num_workers": 2}
  options |= {"batch_size": 4, "image_size": 32, "seed": 1, "start_step": 0}
  batches = pipeline.train_batches(load(tree), **options)
  next(batches)
  names = [thread.name for thread in threading.enumerate()]
  assert not multiprocessing.active_children()
  assert sum(name.startswith("grain-prefetch") for name in names) >= 2
  batches.close()


@pytest.mark.parametrize(("num_workers", "canvas_size"), [(0, None), (2, None), (0, 40), (2, 40)])
def test_too_many_unreadable_images_reach_the_caller(damaged, num_workers, canvas_size):
  with pytest.raises(UserError, match="3 images cannot be read, more than data.max_bad_images=2"):
    options = {"superpixels": NONE, "num_workers": num_workers}
    train(load(damaged, max_bad_images=2), 8, **options, canvas_size=canvas_size)


def test_exhausted_and_closed_iterators_stay_empty(tree):
  batches = pipeline.eval_batches(
    load(tree), batch_size=11, image_size=32, superpixels=NONE, num_workers=0
  )
  assert len(list(batches)) == 1 and list(batches) == []
  options = {"batch_size": 2, "image_size": 32, "augment": "none", "superpixels": NONE}
  endless = pipeline.train_batches(load(tree), **options, seed=0, start_step=0, num_workers=0)
  next(endless)
  endless.close()
  assert list(endless) == []


def test_scripts_end_without_a_word_from_their_workers(tree, tmp_path):
  """A script that parses no flags, keeps batches, leaves one iterator open and exhausts another."""
  script = tmp_path / "script.py"
  script.write_text(f"""
from hseg_jax.data import pipeline, sources
if __name__ == "__main__":
  source = sources.load("folder", name="", root={str(tree)!r}, split="train", image_size=32, seed=0,
                        max_bad_images=0)
  batches = pipeline.train_batches(source, batch_size=2, image_size=32, augment="none",
    superpixels={NONE!r}, seed=0, start_step=0, num_workers=1)
  batch = next(batches)  # still there when the interpreter ends
  for last in pipeline.eval_batches(source, batch_size=2, image_size=32, superpixels={NONE!r},
                                    num_workers=1):
    pass
  print(batch["image"].shape, last["image"].shape)
""")
  result = subprocess.run([sys.executable, script], capture_output=True, text=True)
  assert (result.returncode, result.stdout, result.stderr) == (
    0,
    "(2, 32, 32, 3) (2, 32, 32, 3)\n",
    "",
  )


def test_order_is_that_of_the_batches():
  class Numbers:
    class_names = ()

    def __len__(self):
      return 7

    def __getitem__(self, index):
      return {"image": np.full((8, 8, 3), index, np.uint8), "label": int(index)}

  batches = pipeline.train_batches(
    Numbers(),
    batch_size=3,
    image_size=8,
    augment="none",
    superpixels={"method": "none"},
    seed=5,
    start_step=0,
    num_workers=0,
  )
  found = [label for _ in range(6) for label in next(batches)["label"]]
  batches.close()
  assert stream.order(7, 5, range(18)) == found and found[:7] != found[7:14]
  assert stream.order(7, 6, range(7)) not in (found[:7], found[7:14])
