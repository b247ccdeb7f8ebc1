"""Decoding: every kind of image becomes RGB, and what cannot is named; label maps; folders."""

import concurrent.futures
import io
import os
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from hseg_jax import images
from hseg_jax.errors import UserError


def encoded(array, **options):
  buffer = io.BytesIO()
  image = array if isinstance(array, Image.Image) else Image.fromarray(array)
  image.save(buffer, **options)
  return buffer.getvalue()


def decode(data):
  return images.decode(io.BytesIO(data), "it")


def smaller(data, reduction):
  return images.decode_smaller(io.BytesIO(data), "it", reduction)


def flat(value, size=(8, 12)):
  return np.full((*size, 3), value, np.uint8)


def upright():
  exif = Image.Exif()
  exif[0x0112] = 1
  return exif


def test_grey_palette_cmyk_and_opaque_images_become_rgb():
  ramp = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
  np.testing.assert_array_equal(decode(encoded(ramp, format="png")), ramp[:, :, None].repeat(3, 2))
  colours = flat((204, 51, 102))  # of the palette that Pillow takes
  for mode, kind in (
    ("P", "png"),
    ("RGBA", "png"),
    ("CMYK", "jpeg"),
    ("P", "gif"),
    ("RGB", "webp"),
    ("RGB", "bmp"),
    ("CMYK", "tiff"),
  ):
    decoded = decode(encoded(Image.fromarray(colours).convert(mode), format=kind))
    assert decoded.shape == colours.shape and decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - colours).max() < 25, mode


def test_what_is_transparent_is_laid_on_white():
  colours = np.dstack([flat((200, 100, 0)), np.uint8([[0, 255, 51] * 4] * 8)])
  expected = np.uint8([[255, 255, 255], [200, 100, 0], [244, 224, 204]])
  np.testing.assert_array_equal(decode(encoded(colours, format="png"))[0, :3], expected)
  grey = Image.fromarray(colours[..., 0]).convert("LA")
  grey.putalpha(Image.fromarray(colours[..., 3]))
  np.testing.assert_array_equal(decode(encoded(grey, format="png"))[0, :3, 2], [255, 200, 244])
  palette = Image.fromarray(flat((0, 0, 255))).convert("P")
  index = palette.getpixel((0, 0))
  assert (decode(encoded(palette, format="png", transparency=index)) == 255).all()
  assert (decode(encoded(flat(7), format="png", transparency=(7, 7, 7))) == 255).all()


def test_16_bit_images_are_scaled_not_clipped():
  ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
  expected = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
  np.testing.assert_array_equal(decode(encoded(ramp, format="png")), expected)
  np.testing.assert_array_equal(decode(encoded(ramp, format="tiff")), expected)
  for ending in (".png", ".tiff"):  # Pillow writes no such colours
    data = cv2.imencode(ending, np.dstack([ramp, ramp.T, ramp]))[1].tobytes()
    found = decode(data)
    np.testing.assert_array_equal(found[..., 0], expected[..., 0])
    np.testing.assert_array_equal(found[..., 1], expected[..., 0].T)


def test_exif_rotation_is_undone():
  image = flat(0)
  image[:, :6] = 255
  exif = Image.Exif()
  exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show it
  found = decode(encoded(image, format="png", exif=exif))
  np.testing.assert_array_equal(found, np.rot90(image, k=-1))


@pytest.mark.parametrize(
  "options",
  [
    {"subsampling": 0},
    {"subsampling": 2},
    {"restart_marker_blocks": 3},
    {"keep_rgb": True},
    {"progressive": True},
    {"exif": upright()},
    {"mode": "L"},
  ],
)
def test_photographs_are_decoded_as_pillow_does(options, monkeypatch, tmp_path):
  """By a library that is quicker, both from files in memory and on disk."""
  coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
  smooth = Image.fromarray(coarse).resize((101, 67), Image.Resampling.BICUBIC)
  smooth = smooth.convert(options.get("mode", "RGB"))
  data = encoded(smooth, format="jpeg", quality=70, **options)
  preview = encoded(flat(0), format="jpeg")  # embedded, as by cameras
  data = data[:2] + b"\xff\xe4" + struct.pack(">H", 2 + len(preview)) + preview + data[2:]
  expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
  monkeypatch.setattr(ImageFile.ImageFile, "load", None)
  np.testing.assert_array_equal(decode(data), expected)
  (tmp_path / "a.jpg").write_bytes(data)
  np.testing.assert_array_equal(images.decode(tmp_path / "a.jpg", "a.jpg"), expected)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"turned": True}, {"mode": "CMYK"}])
@pytest.mark.parametrize(
  "allowed, factor", [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8), (99, 8)]
)
def test_photographs_come_smaller_where_they_may(options, allowed, factor):
  coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
  mode, turned, exif = options.get("mode", "RGB"), options.get("turned"), Image.Exif()
  shape = (208, 136) if turned else (203, 133)
  smooth = Image.fromarray(coarse).resize(shape, Image.Resampling.BICUBIC)
  exif[0x0112] = 6 if turned else 1
  progressive = options.get("progressive", False)
  data = encoded(smooth.convert(mode), format="jpeg", exif=exif, progressive=progressive)
  whole, asked = decode(data), []
  found, size = smaller(data, lambda *size: asked.append(size) or allowed)
  assert [size] == asked == [whole.shape[:2]]
  assert found.shape[:2] == tuple(-(-side // factor) for side in size)
  if turned:  # blocks are counted from the camera's upper left corner
    whole, found = np.rot90(whole), np.rot90(found)
  if factor == 1:
    np.testing.assert_array_equal(found, whole)
  else:
    rows, columns = (side // factor * factor for side in whole.shape[:2])
    blocks = whole[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor, 3)
    means = blocks.mean((1, 3))
    errors = np.abs(found[: len(means), : means.shape[1]] - means)[1:-1, 1:-1]
    assert errors.mean() < 2 and errors.max() < 12


def test_a_smaller_photograph_is_the_one_pillow_makes(monkeypatch):
  noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
  data = encoded(noise, format="jpeg")
  expected = Image.open(io.BytesIO(data))
  expected.draft(None, (35, 45))
  expected = np.asarray(expected)
  monkeypatch.setattr(ImageFile.ImageFile, "load", None)  # which its decoder does without
  np.testing.assert_array_equal(smaller(data, lambda *size: 2)[0], expected)


def test_bytes_that_fill_change_nothing():
  data = encoded(flat(9, (60, 80)), format="jpeg")
  assert smaller(data[:20] + b"\xff\xff" + data[20:], lambda *size: 2)[0].shape == (30, 40, 3)


def test_what_cannot_come_smaller_comes_whole():
  for data in (encoded(flat(9, (7, 500)), format="jpeg"), encoded(flat(9, (60, 80)), format="png")):
    found, size = smaller(data, lambda *size: 8)
    assert found.shape == decode(data).shape and size == found.shape[:2]
  data = encoded(flat(9, (60, 80)), format="jpeg")
  with pytest.raises(images.UnreadableImage, match="truncated"):
    smaller(data[:-40], lambda *size: 8)


def test_the_first_of_several_photographs_in_a_file_comes_smaller():
  first, second = (Image.fromarray(flat(value, (40, 60))) for value in (50, 200))
  data = encoded(first, format="mpo", save_all=True, append_images=[second])
  found, size = smaller(data, lambda *size: 2)
  assert size == (40, 60) and found.shape[:2] == (20, 30) and (found == 50).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photographs_come_smaller_in_whole_blocks(orientation):
  """As others would begin with a block that is not full."""
  ramp = np.arange(64, dtype=np.uint8) * 3
  ramp, exif = np.tile(ramp[:, None], (44, 1, 3)), Image.Exif()
  exif[0x0112] = orientation
  data = encoded(ramp, format="jpeg", exif=exif, quality=95)
  found, size = smaller(data, lambda *size: 8)
  whole = decode(data)
  assert whole.shape[:2] == size == ((44, 64) if orientation < 5 else (64, 44))
  factor = 8 if orientation == 1 else 4
  assert found.shape[:2] == tuple(-(-side // factor) for side in size)
  if factor == 4:
    means = whole.reshape(size[0] // 4, 4, size[1] // 4, 4, 3).mean((1, 3))
    assert np.abs(found - means).max() < 4


@pytest.mark.parametrize("kind, value", [(2, b"no\0\0"), (3, b"\x09\0\0\0"), (3, b"\0\0\0\0")])
def test_a_tag_of_orientation_that_means_nothing_is_ignored(kind, value):
  """Text, and numbers that no orientation has."""
  tag = struct.pack("<HHI4s", 0x0112, kind, 3 if kind == 2 else 1, value)
  exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + tag + b"\0\0\0\0"
  data = encoded(flat(50), format="jpeg", exif=exif)
  assert smaller(data, lambda *size: 1)[1] == decode(data).shape[:2] == (8, 12)


XMP = b"http://ns.adobe.com/xap/1.0/\0<tiff:Orientation>6</tiff:Orientation>"
EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHHI", 0x0112, 3, 1, 6, 0, 0)


@pytest.mark.parametrize(
  "before",
  [
    b"",
    b"\xff",
    b"\xff\xfe\0\4hi",
    b"\xff\xd0",
    b"\xff\xec\1\6" + bytes(4) + b"\xff\xda" + bytes(254),
    b"junk",
  ],
)
@pytest.mark.parametrize("tags", [XMP, EXIF], ids=["xmp", "exif"])
@pytest.mark.parametrize("place", ["early", "late"])
def test_tags_are_found_behind_whatever_comes_before(before, tags, place):
  """Nothing, a byte that fills, segments, a marker without length, an embedded scan, or rubbish."""
  image = np.tile(np.arange(0, 128, 8, dtype=np.uint8)[:, None], (8, 1, 3))
  data = encoded(image, format="jpeg")
  tagged = before + b"\xff\xe1" + struct.pack(">H", 2 + len(tags)) + tags
  at = 20 if place == "early" else data.index(b"\xff\xda")  # behind JFIF's segment, or the last
  found = decode(data[:at] + tagged + data[at:])
  np.testing.assert_array_equal(found, np.rot90(decode(data), k=-1))


@pytest.mark.parametrize("transform", [0, 2])
def test_four_inks_are_judged_as_by_pillow(transform):
  """As they are, or with luminance and colours instead of the first three."""
  noise = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
  data = bytearray(encoded(Image.fromarray(noise, "CMYK"), format="jpeg"))
  data[data.index(b"Adobe") + 11] = transform
  expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
  np.testing.assert_array_equal(decode(bytes(data)), expected)


@pytest.mark.parametrize("before", [b"", b"\xff", b"\xff\xd0"])
def test_lossless_photographs_come_whole(before):
  """Their decoder would write them whole into memory for a half; also behind what is odd."""
  data = bytes.fromhex(
    "ffd8ffee000e41646f626500640000000000ffc30011080010001803521100471100421100ffc400160001010100"
    "000000000000000000000000000705ffda000c03520047004200010000a461cc40"
  )
  data += b"\0" * 142 + b"\x01\xff\xd9"
  found, size = smaller(data[:2] + before + data[2:], lambda *size: 2)
  assert size == (16, 24)
  np.testing.assert_array_equal(found, np.full((16, 24, 3), (200, 100, 50)))
  turned = b"\xff\xe1" + struct.pack(">H", 2 + len(EXIF)) + EXIF  # which Pillow decodes
  found, size = smaller(data[:2] + before + turned + data[2:], lambda *size: 2)
  assert size == (24, 16)
  np.testing.assert_array_equal(found, np.full((24, 16, 3), (200, 100, 50)))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_pipes_are_read(kind, tmp_path):
  data = encoded(flat(50), format=kind)
  os.mkfifo(tmp_path / "pipe")
  with concurrent.futures.ThreadPoolExecutor() as pool:
    written = pool.submit((tmp_path / "pipe").write_bytes, data)
    assert (images.decode(tmp_path / "pipe", "it") == 50).all() and written.result() == len(data)


def test_memory_of_photographs_is_their_own():
  """They can be written to, and none of them is another's."""
  data = encoded(flat(50, (64, 64)), format="jpeg")
  first, second = decode(data), decode(data)
  first[:] = 0
  assert (second == 50).all() and first.flags.c_contiguous


def test_other_photographs_and_damaged_ones_are_judged_as_by_pillow():
  noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
  data = encoded(noise, format="jpeg")
  flipped = bytearray(data)
  for k in range(900, 1000, 7):
    flipped[k] ^= 0x5A
  # Something behind the end, an end that comes too early, and a middle that means nothing.
  for each in (
    encoded(noise, format="jpeg", progressive=True),
    data + b"more",
    data[:900] + b"\xff\xd9",
    bytes(flipped),
  ):
    expected = np.asarray(Image.open(io.BytesIO(each)))
    np.testing.assert_array_equal(decode(each), expected)
  with pytest.raises(images.UnreadableImage, match="truncated"):
    decode(data[:-2])
  for length in (3, 4, 20, 21, 23):  # within or right behind the first segment
    with pytest.raises(images.UnreadableImage, match=r"\((not an image|.*[Tt]runcated.*)\)"):
      decode(data[:length])
  with pytest.raises(images.UnreadableImage, match="broken data stream"):
    decode(data[:1200] + data)  # of which others make an image that is grey but for a stripe


def header_of(width, height):
  """A PNG that says how large it is, and holds nothing."""
  chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT", b"IEND"]
  pack = lambda x: struct.pack(">I", len(x) - 4) + x + struct.pack(">I", zlib.crc32(x))
  return b"\x89PNG\r\n\x1a\n" + b"".join(map(pack, chunks))


def large_jpeg():
  data = encoded(flat(0), format="jpeg")
  return data.replace(struct.pack(">HH", 8, 12), struct.pack(">HH", 9000, 10_000))


@pytest.mark.parametrize(
  "data, words",
  [
    (b"", "not an image"),
    (b"dear diary", "not an image"),
    (encoded(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), format="jpeg")[:900],
     "truncated"),
    (encoded(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), format="png")[:900],
     "truncated"),
    (large_jpeg(), "10000x9000 pixels are more than 89 million; shrink it"),
    (header_of(10_000, 10_000), "10000x10000 pixels are more than 89 million; shrink it"),
    (header_of(100_000, 100_000), "exceeds limit"),
    (encoded(np.zeros((4, 4), np.float32), format="tiff"), "floating-point"),
    (encoded(np.full((4, 4), 200, np.int32), format="tiff"), "32 bits; save it with 8 or 16"),
  ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(data, words):
  with warnings.catch_warnings(), pytest.raises(images.UnreadableImage, match=words) as error:
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    decode(data)
  assert str(error.value).startswith("Cannot read the image it (")
  assert isinstance(error.value, UserError)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_large_images_are_refused_though_whole(kind, monkeypatch):
  monkeypatch.setattr(images, "MAX_PIXELS", 90)
  with pytest.raises(images.UnreadableImage, match="12x8 pixels are more than"):
    decode(encoded(flat(0), format=kind))
  assert decode(encoded(flat(0, (9, 10)), format=kind)).shape == (9, 10, 3)


def test_a_missing_file_is_named_once(tmp_path):
  with pytest.raises(images.UnreadableImage) as error:
    images.decode(tmp_path / "none.jpg", "none.jpg")
  assert str(error.value) == "Cannot read the image none.jpg (No such file or directory)"


def test_label_maps_of_every_kind(tmp_path):
  labels = np.array([[0, 3, 3], [7, 7, 200]])
  for dtype in (np.uint8, np.int16, np.int64):
    np.save(tmp_path / "a.npy", labels.astype(dtype))
    np.testing.assert_array_equal(images.read_labels(tmp_path / "a.npy"), labels)
  np.savez(tmp_path / "a.npz", anything=labels)
  np.testing.assert_array_equal(images.read_labels(tmp_path / "a.npz"), labels)
  np.savez(tmp_path / "b.npz", segments=labels, parents_0=np.zeros(4, int))
  np.testing.assert_array_equal(images.read_labels(tmp_path / "b.npz"), labels)
  Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "a.png")
  np.testing.assert_array_equal(images.read_labels(tmp_path / "a.png"), labels)
  Image.fromarray((labels * 300).astype(np.uint16)).save(tmp_path / "b.png")
  np.testing.assert_array_equal(images.read_labels(tmp_path / "b.png"), labels * 300)
  palette = Image.fromarray(labels.astype(np.uint8)).convert("P")
  palette.putpalette([9] * 768)  # what colours the ids have means nothing
  palette.save(tmp_path / "c.png")
  np.testing.assert_array_equal(images.read_labels(tmp_path / "c.png"), labels)
  np.save(tmp_path / "d.npy", labels * -1.0)
  np.testing.assert_array_equal(images.read_labels(tmp_path / "d.npy"), -labels)
  Image.fromarray(labels > 3).save(tmp_path / "d.png")
  np.testing.assert_array_equal(images.read_labels(tmp_path / "d.png"), labels > 3)
  for name in ("d.npy", "d.png"):
    assert images.read_labels(tmp_path / name).dtype == np.int64


def test_what_is_no_label_map_is_named(tmp_path):
  np.save(tmp_path / "half.npy", np.full((2, 2), 0.5))
  np.save(tmp_path / "nan.npy", np.full((2, 2), np.nan))
  np.save(tmp_path / "none.npy", np.zeros((0, 2), int))
  np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2), int))
  np.save(tmp_path / "code.npy", np.array([[print]], object), allow_pickle=True)
  np.savez(tmp_path / "two.npz", a=np.zeros((2, 2), int), b=np.zeros((2, 2), int))
  Image.fromarray(flat(3)).save(tmp_path / "colours.png")
  (tmp_path / "text.png").write_text("hello")
  (tmp_path / "empty.npy").touch()
  (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:100])
  for path in sorted(tmp_path.iterdir()):
    with pytest.raises(images.UnreadableImage, match=f"label map .*{path.name}") as error:
      images.read_labels(path)
    assert "allow_pickle" not in str(error.value)
  with pytest.raises(images.UnreadableImage, match="one channel of 8 or 16 bits"):
    images.read_labels(tmp_path / "colours.png")


def test_folders_list_their_images_in_order(tmp_path):
  for name in ("b.JPG", "a/z.png", "a.tif", ".hidden.png", ".git/x.png", "notes.txt"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  assert images.list_folder(tmp_path) == ["a.tif", "a/z.png", "b.JPG"]
