"""Images worse than those a model learnt from: with noise, out of focus, or pale.

Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019 (ImageNet-C), whose five strengths these are.
"""

import numpy as np
from jaxtyping import UInt8

from hseg_jax.data import transforms
from hseg_jax.data.sources import Example, Examples
from hseg_jax.errors import UserError

# By severity, 1 to 5.
_DEVIATION = (0.08, 0.12, 0.18, 0.26, 0.38)  # of the noise, where white is 1
_SIGMA = (1, 2, 3, 4, 6)  # of the blur in an image of 224 pixels; others scale it
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # that is left

CORRUPTIONS = ("none", "noise", "blur", "contrast")


def corrupt(
  image: UInt8[np.ndarray, "h w 3"], name: str, severity: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
  """Corrupts an image.

  Args:
    image: RGB.
    name: one of `CORRUPTIONS`. Noise is Gaussian, of every pixel and channel its own; contrast
      shrinks towards the image's mean grey.
    severity: 1 to 5.
    rng: of the noise.
  """
  if name == "noise":
    noise = rng.normal(0, 255 * _DEVIATION[severity - 1], image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)
  if name == "blur":
    sigma = _SIGMA[severity - 1] * min(image.shape[:2]) / transforms.REFERENCE_SIZE
    return transforms.gaussian_blur(image, sigma=sigma)
  if name == "contrast":
    return transforms.adjust_contrast(image, _CONTRAST[severity - 1])
  return image


class Corrupted:
  """A source whose images are cut to what evaluation sees of them and then corrupted.

  Every image has noise of its own, the same whenever it is read. Masks are cut alike.

  Attributes:
    class_names: those of the source.
  """

  def __init__(self, source: Examples, *, name: str, severity: int, image_size: int, seed: int):
    """Wraps a source.

    Args:
      source: examples with images of any size.
      name: one of `CORRUPTIONS`.
      severity: 1 to 5.
      image_size: side in pixels of what evaluation sees.
      seed: of the noise.

    Raises:
      UserError: there is no such corruption or severity.
    """
    if name not in CORRUPTIONS:
      raise UserError(f"There is no corruption {name!r}; choose among {', '.join(CORRUPTIONS)}.")
    if severity not in range(1, 6):
      raise UserError(f"The severity of a corruption is {severity}; it must be 1, 2, 3, 4 or 5.")
    self.class_names = source.class_names
    self._source, self._corruption = source, (name, severity)
    self._image_size, self._seed = image_size, seed

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> Example:
    example = self._source[index]
    masks = {
      key: transforms.evaluation_mask(example[key], image_size=self._image_size)
      for key in ("object", "parts")
      if key in example
    }
    image = transforms.evaluation(example["image"], image_size=self._image_size)
    rng = np.random.default_rng((self._seed, index))
    return {**example, **masks, "image": corrupt(image, *self._corruption, rng)}
