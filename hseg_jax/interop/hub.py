"""Weights by folder or by name: the Hugging Face hub, and the weights that come with the package.

This is the only file that imports huggingface_hub, which is an extra of the package.
"""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from types import ModuleType

from hseg_jax.errors import UserError
from hseg_jax.interop import exported

SHIPPED = pathlib.Path(__file__).parent.parent / "weights" / "cast_tiny"
_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def locate(name_or_folder: str | os.PathLike | None = None) -> pathlib.Path:
  """The folder of weights that a user names.

  Args:
    name_or_folder: a folder as `hseg export` writes it; OWNER/NAME, a repository of the Hugging
      Face hub, which is downloaded unless the cache has it; None for the weights that come with
      this package.

  Raises:
    UserError: there is no such folder and no such repository, or it cannot be fetched.
  """
  if name_or_folder is None:
    return SHIPPED
  folder = pathlib.Path(name_or_folder)
  if folder.is_dir():
    return folder
  name = os.fspath(name_or_folder)
  if folder.exists() or not _NAME.fullmatch(name):
    raise UserError(f"There is no folder {name}; give one that `hseg export` wrote.")
  try:
    return fetch(name)
  except UserError as error:  # the name may as well have been meant for a folder
    raise UserError(f"There is no folder {name}. {error}") from error


def fetch(name: str) -> pathlib.Path:
  """Downloads the weights of a repository into the hub's cache; returns their folder.

  Raises:
    UserError: the extra is not installed, or the hub does not give the weights.
  """
  client = _client(f"{name} was not fetched")
  with _told(client, name):
    return pathlib.Path(
      client.snapshot_download(name, allow_patterns=[exported.WEIGHTS, exported.INFO])
    )


def check_push(name: str) -> None:
  """Refuses at once what `push` would refuse.

  Raises:
    UserError: the extra is not installed, nobody is logged in, or `name` is not OWNER/NAME.
  """
  if not _NAME.fullmatch(name):
    raise UserError(f"{name!r} is no name of a repository; give OWNER/NAME.")
  if _client(f"Nothing was pushed to {name}").get_token() is None:
    raise UserError(f"Pushing to {name} needs an account on the hub: {_LOG_IN}.")


def push(folder: str | os.PathLike, name: str, files: Sequence[str]) -> str:
  """Uploads files of a folder in one commit; makes the repository, public, where there is none.

  Args:
    folder: as `hseg export` writes it.
    name: OWNER/NAME of the repository.
    files: which files of the folder.

  Returns:
    The repository's address.

  Raises:
    UserError: the extra is not installed, nobody is logged in, or the hub refuses.
  """
  check_push(name)
  client = _client(f"Nothing was pushed to {name}")
  api = client.HfApi()
  with _told(client, name):
    address = api.create_repo(name, exist_ok=True)
    api.upload_folder(
      repo_id=name,
      folder_path=folder,
      allow_patterns=list(files),
      commit_message="Upload weights exported by hseg_jax",
    )
  return str(address)


def _client(complaint: str) -> ModuleType:
  try:
    import huggingface_hub
    import huggingface_hub.errors  # not loaded with the former
  except ImportError as error:
    raise UserError(
      f"{complaint}; the Hugging Face hub needs an extra: pip install 'hseg_jax[hub]'."
    ) from error
  return huggingface_hub


@contextlib.contextmanager
def _told(client: ModuleType, name: str) -> Iterator[None]:
  """Turns what the hub may answer into one sentence."""
  errors = client.errors
  try:
    yield
  except errors.HFValidationError as error:
    raise UserError(f"{name!r} is no name of a repository; give OWNER/NAME.") from error
  except errors.LocalEntryNotFoundError as error:
    raise UserError(
      f"The hub cannot be reached, and its cache does not hold {name}; try again with a network."
    ) from error
  except errors.RepositoryNotFoundError as error:
    raise UserError(
      f"The hub shows no repository {name}; check the name, or {_LOG_IN} if it is private."
    ) from error
  except errors.HfHubHTTPError as error:
    status = error.response.status_code
    remedy = f"{_LOG_IN} with a token that may write" if status in (401, 403) else "try again later"
    raise UserError(f"The hub answers {status} for {name}; {remedy}.") from error
  except (errors.HTTPError, OSError) as error:
    raise UserError(f"The hub cannot be reached for {name} ({error}); try again later.") from error
