"""The hub: what is pushed is what is fetched, by the real client and by a stand-in for it."""

import os
import subprocess
import sys
import types

import fake_hub
import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.interop import exported, hub

VARIABLES = {"params": {"x": np.arange(6, dtype=np.float32)}}


class Error(Exception):
  def __init__(self, status=0):
    self.response = types.SimpleNamespace(status_code=status)


@pytest.fixture
def client(monkeypatch):
  """A stand-in for huggingface_hub that keeps the calls, and raises what a test puts into it."""
  names = "HFValidationError LocalEntryNotFoundError RepositoryNotFoundError HfHubHTTPError"
  errors = types.SimpleNamespace(HTTPError=type("HTTPError", (Error,), {}))
  for name in names.split():
    setattr(errors, name, type(name, (Error,), {}))
  stand_in = types.ModuleType("huggingface_hub")
  stand_in.calls, stand_in.trouble, stand_in.errors = [], None, errors

  def record(name, result):
    def call(*arguments, **options):
      stand_in.calls.append((name, arguments, options))
      if stand_in.trouble is not None:
        raise stand_in.trouble
      return result

    return call

  stand_in.get_token = lambda: "token"
  stand_in.snapshot_download = record("snapshot_download", "/cache")
  stand_in.HfApi = lambda: types.SimpleNamespace(
    create_repo=record("create_repo", "https://hub/me/tiny"),
    upload_folder=record("upload_folder", None),
  )
  monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)
  monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
  return stand_in


def test_folders_go_before_names(tmp_path, client, monkeypatch):
  assert hub.locate() == hub.SHIPPED
  path = tmp_path / "runs/weights"
  path.parent.mkdir()
  path.touch()
  monkeypatch.chdir(tmp_path)
  (tmp_path / "me/tiny").mkdir(parents=True)
  assert hub.locate("me/tiny").samefile(tmp_path / "me/tiny") and client.calls == []
  assert str(hub.locate("me/other")) == "/cache"
  wanted = {"allow_patterns": ["model.safetensors", "model.json"]}
  assert client.calls == [("snapshot_download", ("me/other",), wanted)]
  with pytest.raises(UserError, match="There is no folder runs/weights; give one"):
    hub.locate("runs/weights")  # a file
  client.trouble = client.errors.LocalEntryNotFoundError(0)
  with pytest.raises(UserError, match="There is no folder runs/typo. The hub cannot be reached"):
    hub.locate("runs/typo")


def test_pushes_the_named_files_in_one_commit(tmp_path, client):
  assert hub.push(tmp_path, "me/tiny", ["model.json"]) == "https://hub/me/tiny"
  (first, name, options), (second, _, upload) = client.calls
  assert (first, name, options) == ("create_repo", ("me/tiny",), {"exist_ok": True})
  assert second == "upload_folder" and upload["repo_id"] == "me/tiny"
  assert upload["folder_path"] == tmp_path and upload["allow_patterns"] == ["model.json"]


@pytest.mark.parametrize("name", ["/nowhere", "runs/export/last", "../x", "tiny"])
def test_what_is_neither_folder_nor_name_is_told(name, client):
  with pytest.raises(UserError, match="There is no folder"):
    hub.locate(name)
  with pytest.raises(UserError, match="give OWNER/NAME"):
    hub.check_push(name)
  assert client.calls == []


def test_pushing_needs_a_token(client):
  client.get_token = lambda: None
  with pytest.raises(UserError, match="hf auth login"):
    hub.check_push("me/tiny")


@pytest.mark.parametrize(
  ("error", "status", "said"),
  [
    ("HFValidationError", 0, "no name of a repository"),
    ("LocalEntryNotFoundError", 0, "its cache does not hold me/tiny"),
    ("RepositoryNotFoundError", 404, "shows no repository me/tiny"),
    ("HfHubHTTPError", 403, "403 for me/tiny; log in"),
    ("HfHubHTTPError", 503, "503 for me/tiny; try again later"),
    ("HTTPError", 0, "cannot be reached"),
  ],
)
def test_troubles_end_in_one_sentence(client, tmp_path, error, status, said):
  client.trouble = getattr(client.errors, error)(status)
  with pytest.raises(UserError, match=said):
    hub.fetch("me/tiny")
  with pytest.raises(UserError, match=said):
    hub.push(tmp_path, "me/tiny", [])


def test_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  for function in (hub.locate, hub.check_push):
    with pytest.raises(UserError, match=r"pip install 'hseg_jax\[hub\]'"):
      function("me/tiny")


def real(code, tmp_path, address, token=fake_hub.TOKEN):
  """Runs code with the real client, which reads its environment when it is imported."""
  pytest.importorskip("huggingface_hub", reason="huggingface_hub, an extra, is not installed")
  environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
  environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_TOKEN": token}
  code = (
    f"from hseg_jax.interop import exported, hub\ntry:\n  {code}\nexcept ValueError as error:\n"
  )
  code += "  print('refused:', error)"
  command = [sys.executable, "-c", code]
  found = subprocess.run(command, capture_output=True, text=True, env=environment)
  assert found.returncode == 0, found.stderr
  return found.stdout.strip()


def test_the_real_client_fetches_what_it_pushed(tmp_path):
  card = {exported.CARD: b"---\n---\nhello"}
  exported.save(tmp_path / "out", VARIABLES, {"name": "x"}, card)
  (tmp_path / "out/private.txt").write_text("not to be shared")
  files = ["model.safetensors", "model.json", "README.md"]
  fetch = "print(exported.load_exported(hub.locate('me/tiny')))"
  with fake_hub.serve() as server:
    push = f"print(hub.push({str(tmp_path / 'out')!r}, 'me/tiny', {files}))"
    assert real(push, tmp_path, server.address) == f"{server.address}/me/tiny"
    assert sorted(server.repositories["me/tiny"]) == sorted(files)
    for name, content in server.repositories["me/tiny"].items():
      assert content == (tmp_path / "out" / name).read_bytes()
    found = real(fetch, tmp_path, server.address, token="")
    assert "params/x" in found and "5." in found and "{'name': 'x'}" in found
  # The cache serves without a hub.
  assert real(fetch, tmp_path, server.address, token="") == found


def test_the_real_client_is_refused_in_one_sentence(tmp_path):
  push = f"hub.push({str(tmp_path)!r}, '{{}}/tiny', ['model.json'])"
  with fake_hub.serve() as server:
    said = real("hub.fetch('me/none')", tmp_path, server.address, token="")
    assert said.startswith("refused: The hub shows no repository me/none")
    assert "hf auth login" in real(push.format("me"), tmp_path, server.address, token="")
    assert "answers 401" in real(push.format("me"), tmp_path, server.address, token="wrong")
    assert "answers 403" in real(push.format("someone"), tmp_path, server.address)
  said = real("hub.fetch('me/none')", tmp_path, server.address)
  assert said.startswith("refused: The hub cannot be reached, and its cache does not hold me/none")
  assert "cannot be reached" in real(push.format("me"), tmp_path, server.address)
