"""How many images of a data set cannot be read, and when that is too many."""

import os
import shutil
import tempfile
import weakref

from absl import logging

from hseg_jax.errors import UserError


class BadImages:
  """Counts the distinct unreadable images of a data set, over all worker processes of a host.

  Workers share no memory, and which of them meets a bad image is chance. So each bad image becomes
  an empty file in a temporary folder: creating it is atomic, its name is the image's position, and
  the number of files is the count. Past the limit every process or thread that meets a bad image
  raises an error, whoever counted it.
  """

  def __init__(self, limit: int):
    self._limit = limit
    self._folder = tempfile.mkdtemp(prefix="hseg_bad_images_")
    # Only the process that made the folder removes it: unpickled copies do not come by here.
    weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

  def report(self, position: int, reason: str) -> None:
    """Counts an image once, with one warning, and raises `UserError` beyond the limit."""
    try:
      open(os.path.join(self._folder, str(position)), "x").close()
      is_new = True
    except FileExistsError:
      is_new = False
    number = len(os.listdir(self._folder))
    if number > self._limit:
      raise UserError(
        f"{number} images cannot be read, more than data.max_bad_images={self._limit} allows; "
        f"the last one: {reason}."
      )
    if is_new:
      logging.warning(
        "%s; another image takes its place (%d of at most %d).", reason, number, self._limit
      )
