"""Augmentations: pure functions from a uint8 RGB image to a uint8 RGB image.

The semantics are torchvision's on Pillow images, as in the PyTorch reference. Each random operation
draws from the `numpy.random.Generator` it is given, so an example's augmentation is a function of
its seed. Images leave here as uint8: superpixels are computed on them next, and normalisation
happens on the accelerator.
"""

import math

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image as PillowImage

Image = UInt8[np.ndarray, "h w 3"]
Square = UInt8[np.ndarray, "s s 3"]
Box = tuple[int, int, int, int]  # top, left, height and width

REFERENCE_SIZE = 224  # the image size for which the reference states its blur, in pixels
CROP_TRIES = 10  # before a crop falls back to the centre
CROP_RATIO = (3 / 4, 4 / 3)
MIN_SCALE = 0.08  # smallest share of an image's area that a crop covers

SUPERVISED_JITTER = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05}

# MoCo v3's recipe: probabilities, those of blur and solarisation for each view, and strengths.
MOCO_JITTER_RATE, MOCO_GREY_RATE = 0.8, 0.2
MOCO_VIEWS = ({"blur": 1.0, "solarization": 0.0}, {"blur": 0.1, "solarization": 0.2})
MOCO_JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
MOCO_SIGMA = (0.1, 2.0)

VIEWS = {"supervised": 1, "moco": len(MOCO_VIEWS)}  # of an image that each recipe makes


def supervised(
  image: Image,
  rng: np.random.Generator,
  *,
  image_size: int,
  min_scale: float = MIN_SCALE,
  brightness: float = SUPERVISED_JITTER["brightness"],
  contrast: float = SUPERVISED_JITTER["contrast"],
  saturation: float = SUPERVISED_JITTER["saturation"],
  hue: float = SUPERVISED_JITTER["hue"],
) -> Square:
  """A plain recipe for supervised training: crop, flip and a modest colour jitter.

  Args:
    image: RGB of any size.
    rng: source of every random choice.
    image_size: side of the result in pixels.
    min_scale: smallest share of the image's area that a crop may cover.
    brightness: see `color_jitter`, as for `contrast`, `saturation` and `hue`.
  """
  image = random_resized_crop(image, rng, size=image_size, scale=(min_scale, 1.0))
  image = random_flip(image, rng)
  return color_jitter(
    image, rng, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue
  )


def moco_views(
  image: Image, rng: np.random.Generator, *, image_size: int, min_scale: float = MIN_SCALE
) -> tuple[Square, Square]:
  """The two views of MoCo v3 (arXiv 2104.02057, appendix; `main_moco_suppix.py`).

  Both: crop, colour jitter (p 0.8), grey (p 0.2), blur, flip (p 0.5). The first is always blurred;
  the second is blurred with p 0.1 and then solarised with p 0.2.

  Args:
    image: RGB of any size.
    rng: source of every random choice.
    image_size: side of the views in pixels.
    min_scale: smallest share of the image's area that a crop may cover.
  """
  view_1, view_2 = (_moco_view(image, rng, image_size, min_scale, **rates) for rates in MOCO_VIEWS)
  return view_1, view_2


def _moco_view(image, rng, image_size, min_scale, *, blur, solarization) -> Square:
  """One view; `blur` and `solarization` are probabilities."""
  image = random_resized_crop(image, rng, size=image_size, scale=(min_scale, 1.0))
  if rng.random() < MOCO_JITTER_RATE:
    image = color_jitter(image, rng, **MOCO_JITTER)
  if rng.random() < MOCO_GREY_RATE:
    image = grayscale(image)
  if rng.random() < blur:
    image = gaussian_blur(image, sigma=rng.uniform(*MOCO_SIGMA) * image_size / REFERENCE_SIZE)
  if rng.random() < solarization:
    image = solarize(image)
  return random_flip(image, rng)


def evaluation(image: Image, *, image_size: int) -> Square:
  """Resizes the short side to 256/224 of `image_size` and crops the centre.

  An image that already is `image_size` by `image_size` is used as it is: data sets of small images
  are made for one size, and magnifying them to cut off their borders would lose pixels.
  """
  return square(image, image_size=image_size, short_side=image_size * 256 // 224)


def evaluation_mask(
  mask: Shaped[np.ndarray, "h w"], *, image_size: int
) -> Shaped[np.ndarray, "s s"]:
  """What `evaluation` does to an image, for a mask of labels: nearest pixels, same dtype."""
  return square_mask(mask, image_size=image_size, short_side=image_size * 256 // 224)


def square(image: Image, *, image_size: int, short_side: int | None = None) -> Square:
  """Resizes the short side to `short_side`, or `image_size`, and crops the centre.

  An image that already is `image_size` by `image_size` stays as it is.
  """
  if image.shape[:2] == (image_size, image_size):
    return image
  image = _centre_of_elongated(image)
  height, width = _scaled_size(image.shape[:2], short_side or image_size)
  return center_crop(resize(image, height, width), image_size)


def square_mask(
  mask: Shaped[np.ndarray, "h w"], *, image_size: int, short_side: int | None = None
) -> Shaped[np.ndarray, "s s"]:
  """What `square` does to an image, for a mask of labels: nearest pixels, same dtype."""
  if mask.shape == (image_size, image_size):
    return mask
  mask = _centre_of_elongated(mask)
  height, width = _scaled_size(mask.shape, short_side or image_size)
  rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(int)
  columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(int)
  return center_crop(mask[rows[:, None], columns[None, :]], image_size)


def _centre_of_elongated(image: Shaped[np.ndarray, "h w ..."]) -> Shaped[np.ndarray, "h2 w2 ..."]:
  """The centre, 16 times as long as broad, of an image longer than that; others as they are.

  Resizing a line of pixels to the breadth of a square would take gigabytes, to be cropped away.
  """
  height, width = image.shape[:2]
  longest = 16 * min(height, width)
  top, left = max(height - longest, 0) // 2, max(width - longest, 0) // 2
  return image[top : top + longest, left : left + longest]


def _scaled_size(shape: tuple[int, int], short: int) -> tuple[int, int]:
  """Height and width after the resize; the long side is floored, as torchvision does."""
  height, width = shape
  if height <= width:
    return short, max(int(short * width / height), short)
  return max(int(short * height / width), short), short


def random_resized_crop(
  image: Image,
  rng: np.random.Generator,
  *,
  size: int,
  scale: tuple[float, float],
  ratio: tuple[float, float] = CROP_RATIO,
) -> Square:
  """Cuts a random part out and resizes it to a square.

  Args:
    image: RGB of any size.
    rng: source of the choice.
    size: side of the result in pixels.
    scale: range of the share of the area that is cut, drawn uniformly.
    ratio: range of its width over height, drawn uniformly on a log scale.
  """
  top, left, height, width = _random_crop_box(image.shape[:2], rng, scale, ratio)
  return resize(image[top : top + height, left : left + width], size, size)


def _random_crop_box(shape, rng, scale, ratio) -> Box:
  """Ten tries, then the largest central crop of a permitted ratio."""
  height, width = shape
  for _ in range(CROP_TRIES):
    area = height * width * rng.uniform(*scale)
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    crop_w = round(math.sqrt(area * aspect))
    crop_h = round(math.sqrt(area / aspect))
    if 0 < crop_w <= width and 0 < crop_h <= height:
      top = int(rng.integers(0, height - crop_h + 1))
      left = int(rng.integers(0, width - crop_w + 1))
      return top, left, crop_h, crop_w
  return largest_central_crop(shape, ratio)


def largest_central_crop(shape: tuple[int, int], ratio: tuple[float, float]) -> Box:
  """What is left of an image when it is too broad or too high for a range of width over height."""
  height, width = shape
  crop_h, crop_w = height, width
  if width / height < ratio[0]:
    crop_h = min(round(width / ratio[0]), height)
  elif width / height > ratio[1]:
    crop_w = min(round(height * ratio[1]), width)
  return (height - crop_h) // 2, (width - crop_w) // 2, crop_h, crop_w


def resize(image: Image, height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
  """Resizes bilinearly with antialiasing; Pillow's filter, since OpenCV's has no antialiasing."""
  if image.shape[:2] == (height, width):
    return image
  resized = PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.BILINEAR)
  return np.asarray(resized)


def center_crop(
  image: Shaped[np.ndarray, "h w ..."], size: int
) -> Shaped[np.ndarray, "size size ..."]:
  """The central square of `size` pixels of an image or mask no smaller than that."""
  top = round((image.shape[0] - size) / 2)
  left = round((image.shape[1] - size) / 2)
  return image[top : top + size, left : left + size]


def random_flip(image: Image, rng: np.random.Generator) -> Image:
  """Mirrors the image left to right with probability 0.5."""
  return np.ascontiguousarray(image[:, ::-1]) if rng.random() < 0.5 else image


def color_jitter(
  image: Image,
  rng: np.random.Generator,
  *,
  brightness: float,
  contrast: float,
  saturation: float,
  hue: float,
) -> Image:
  """Changes brightness, contrast, saturation and hue, in random order.

  Args:
    image: RGB.
    rng: source of the order and the factors.
    brightness: factors are uniform in `[max(0, 1 - brightness), 1 + brightness]`.
    contrast: likewise.
    saturation: likewise.
    hue: shifts are uniform in `[-hue, hue]`, in turns of the colour circle.
  """
  strengths = (brightness, contrast, saturation)
  factors = [rng.uniform(max(0.0, 1 - strength), 1 + strength) for strength in strengths]
  factors.append(rng.uniform(-hue, hue))
  operations = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
  for i in rng.permutation(len(operations)):
    image = operations[i](image, factors[i])
  return image


def adjust_brightness(image: Image, factor: float) -> Image:
  """Scales all channels: 0 is black, 1 the image itself."""
  return _blend(np.arange(256), 0.0, factor)[image]


def adjust_contrast(image: Image, factor: float) -> Image:
  """Moves all channels away from the mean grey: 0 is flat grey, 1 the image itself."""
  mean = math.floor(_gray(image).mean() + 0.5)
  return _blend(np.arange(256), mean, factor)[image]


def adjust_saturation(image: Image, factor: float) -> Image:
  """Moves pixels away from their grey: 0 is a grey image, 1 the image itself."""
  return _blend(image, _gray(image)[:, :, None], factor)


def adjust_hue(image: Image, shift: float) -> Image:
  """Turns the hue by `shift` turns, in 8-bit HSV.

  NOTE(reference): OpenCV rounds otherwise than Pillow, by less than one of 255 levels on average.
  """
  steps = int(shift * 255)
  if steps == 0:
    return image  # a round trip through 8-bit HSV would not give it back
  hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
  hsv[:, :, 0] += np.uint8(steps % 256)  # wraps around the circle
  return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def grayscale(image: Image) -> Image:
  """The image's luminance in all three channels."""
  return np.repeat(_gray(image)[:, :, None], 3, axis=2)


def gaussian_blur(image: Image, *, sigma: float) -> Image:
  """Blurs with a Gaussian of `sigma` pixels.

  NOTE(reference): Pillow approximates the Gaussian by three box filters; this one is sampled. The
  reference draws sigma for 224 pixels; other sizes scale it, so that a view loses the same detail.
  """
  return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def solarize(image: Image, threshold: int = 128) -> Image:
  """Inverts the values that are not below `threshold`."""
  return np.where(image < threshold, image, 255 - image)


def _gray(image: Image) -> UInt8[np.ndarray, "h w"]:
  """Luminance by ITU-R 601-2, the weights that Pillow and OpenCV share."""
  return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _blend(image, anchor, factor: float) -> UInt8[np.ndarray, "..."]:
  """`anchor + factor * (image - anchor)`, clipped and truncated as Pillow's blend does."""
  anchor = np.asarray(anchor, np.float32)
  blended = anchor + np.float32(factor) * (np.asarray(image, np.float32) - anchor)
  return np.clip(blended, 0, 255).astype(np.uint8)
