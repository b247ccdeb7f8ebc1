"""A Hugging Face hub in this process: the answers that the real client needs for a small folder."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading

TOKEN = "hf_test"
COMMIT = "0" * 40


class Hub(http.server.ThreadingHTTPServer):
  """Repositories as name -> file -> content, behind HTTP on a free port of this machine."""

  def __init__(self):
    super().__init__(("127.0.0.1", 0), _Handler)
    self.repositories: dict[str, dict[str, bytes]] = {}

  @property
  def address(self) -> str:
    return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def serve():
  """A running `Hub`."""
  with Hub() as hub:
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
      yield hub
    finally:
      hub.shutdown()
      thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"

  def log_message(self, *arguments):
    pass

  def _answer(self, content=b"", status=200, **headers):
    if not isinstance(content, bytes):
      content, headers["Content-Type"] = json.dumps(content).encode(), "application/json"
    self.send_response(status)
    for name, value in {"Content-Length": len(content), **headers}.items():
      self.send_header(name.replace("_", "-"), str(value))
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(content)

  def do_POST(self):
    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
    hub = self.server
    if self.headers.get("Authorization") != f"Bearer {TOKEN}":
      return self._answer({"error": "Invalid username or password."}, 401)
    if self.path == "/api/repos/create":
      asked = json.loads(body)
      name = f"{asked['organization']}/{asked['name']}"
      if asked["organization"] == "someone":
        return self._answer({"error": "You don't have the rights."}, 403)
      hub.repositories.setdefault(name, {})
      return self._answer({"url": f"{hub.address}/{name}"})
    if self.path == "/api/validate-yaml":
      return self._answer({"warnings": [], "errors": []})
    name, action = re.match(r"/api/models/(\w+/\w+)/(\w+)/main", self.path).groups()
    if action == "preupload":
      plan = {"uploadMode": "regular", "shouldIgnore": False}
      return self._answer({"files": [file | plan for file in json.loads(body)["files"]]})
    for line in map(json.loads, body.splitlines()):
      if line["key"] == "file":
        value = line["value"]
        hub.repositories[name][value["path"]] = base64.b64decode(value["content"])
    commit = {"commitUrl": f"{hub.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT}
    return self._answer(commit | {"success": True})

  def do_GET(self):
    self._give()

  def do_HEAD(self):
    self._give()

  def _give(self):
    path = self.path.partition("?")[0]
    match = re.match(r"/(?:api/models/)?(\w+/\w+)(.*)", path)
    files = self.server.repositories.get(match[1])
    if files is None:
      error = {"error": "Repository not found"}
      return self._answer(error, 404, X_Error_Code="RepoNotFound")
    if path.startswith("/api/models/"):
      kind = match[2].split("/")[1] if match[2] else ""
      entry = lambda n: {"type": "file", "path": n, "size": len(files[n]), "oid": COMMIT}
      if kind == "tree":
        return self._answer([entry(n) for n in files])
      siblings = [{"rfilename": n} for n in files]
      return self._answer({"id": match[1], "sha": COMMIT, "siblings": siblings})
    content = files[match[2].rpartition("/")[2]]
    tag = hashlib.sha256(content).hexdigest()
    self._answer(content, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)
