"""The launchers, with stand-ins for Python, hseg and gcloud; the pins against setup.py's ranges."""

import importlib.metadata
import os
import pathlib
import re
import runpy
import shutil
import subprocess

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import hseg_jax

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = [*sorted(ROOT.glob("launch/*.sh")), ROOT / ".ci/run"]

# Answers as an interpreter does; "venv" makes an environment of such stand-ins; all calls are
# written to $CALLS.
PYTHON = r"""#!/usr/bin/env bash
version=VERSION
[ "$1" = -c ] || echo "python $*" >> "$CALLS"
case "$*" in
  "-c import sys; print"*) echo "$version" ;;
  "-c import sys; sys.exit"*) [[ $version == 3.1[1-9] ]] ;;
  "-m venv --clear "*)
    rm -rf "$4"
    mkdir -p "$4/bin"
    cp "$0" "$4/bin/python"
    printf '#!/usr/bin/env bash\necho "hseg in $PWD:$(printf " <%%s>" "$@")" >> "$CALLS"\n' \
      > "$4/bin/hseg"
    chmod +x "$4/bin/hseg"
    ;;
  "-m pip"*) [ -z "${PIP_FAILS:-}" ] ;;
  "-m pytest"*)
    printf 'pytest' >> "$CALLS"
    [ $# = 2 ] || printf ' <%s>' "${@:3}" >> "$CALLS"
    printf '\nshared %s\n' "${HSEG_SHARED:-}" >> "$CALLS"
    ;;
esac
"""

# The one worker is the folder $WORKER.
GCLOUD = r"""#!/usr/bin/env bash
echo "gcloud $4 $(printf "<%s> " "${@:5}" | head -n 1)" >> "$CALLS"
case "$4" in
  scp) cp "$5" "$WORKER/${6#*:}" ;;
  ssh) cd "$WORKER" && bash -c "${!#/--command=}" ;;
esac
"""


class Checkout:
  """A copy of what the launchers need, and a place to call them from."""

  def __init__(self, folder: pathlib.Path):
    self.root, self._calls = folder / "a checkout", folder / "calls"
    self.bin, self.elsewhere = folder / "bin", folder / "elsewhere"
    for path in (self.root / "launch", self.root / ".ci", self.bin, self.elsewhere):
      path.mkdir(parents=True)
    for path in (*SCRIPTS, ROOT / "requirements.txt", ROOT / "setup.py"):
      shutil.copy(path, self.root / path.relative_to(ROOT))
    self.add_command("python3", PYTHON.replace("VERSION", "3.11"))

  def add_command(self, name: str, text: str) -> None:
    (self.bin / name).write_text(text)
    (self.bin / name).chmod(0o755)

  def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    dropped = ("PYTHON", "HSEG_VENV", "HSEG_SHARED", "TPU", "ZONE", "PROJECT")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    path = f"{self.bin}:{os.environ['PATH']}"
    return subprocess.run(
      [str(self.root / script), *arguments],
      cwd=self.elsewhere,
      env={**environment, "PATH": path, "CALLS": str(self._calls), **variables},
      capture_output=True,
      text=True,
    )

  def calls(self) -> list[str]:
    """What the stand-ins were called with since the last time."""
    text = self._calls.read_text() if self._calls.exists() else ""
    self._calls.unlink(missing_ok=True)
    return text.splitlines()


@pytest.fixture
def checkout(tmp_path):
  return Checkout(tmp_path)


def installs(calls: list[str]) -> int:
  return sum(call.startswith("python -m venv") for call in calls)


@pytest.fixture(scope="module")
def setup_arguments() -> dict:
  """What setup.py hands to setuptools."""
  arguments = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(setuptools, "setup", arguments.update)
    runpy.run_path(str(ROOT / "setup.py"))
  return arguments


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
  lines = (ROOT / "requirements.txt").read_text().splitlines()
  lines = [line for line in lines if line and not line.startswith("#")]
  pins = dict(line.split("==") for line in lines)
  assert len(pins) == len(lines)
  return pins


def test_scripts_parse_and_are_executable():
  for script in SCRIPTS:
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK) == (script.name != "environment.sh"), script


def test_pins_are_within_the_ranges_of_setup(setup_arguments, pins):
  for text in setup_arguments["install_requires"] + setup_arguments["extras_require"]["dev"]:
    wanted = Requirement(text)
    assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), text


def test_jax_of_the_accelerators_has_the_range_of_jax(setup_arguments):
  ranges = {Requirement(r).name: Requirement(r) for r in setup_arguments["install_requires"]}
  for extra in ("gpu", "tpu"):
    (text,) = setup_arguments["extras_require"][extra]
    assert Requirement(text).specifier == ranges["jax"].specifier


def test_everything_that_is_needed_is_pinned(setup_arguments, pins):
  direct = setup_arguments["install_requires"] + setup_arguments["extras_require"]["dev"]
  # "" stands for what a package needs without any of its extras.
  waiting = [(text, "setup.py", {""}) for text in direct]
  seen = set()
  while waiting:
    text, parent, extras = waiting.pop()
    needed = Requirement(text)
    marker = needed.marker
    if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
      continue
    name = canonicalize_name(needed.name)
    assert name in pins, f"{parent} needs {name}"
    if (name, *needed.extras) not in seen:
      seen.add((name, *needed.extras))
      wanted = {"", *needed.extras}
      waiting += [(text, name, wanted) for text in importlib.metadata.requires(name) or ()]
  assert {name for name, *_ in seen} == set(pins), "a pin that nothing needs"


def test_version_is_the_same_everywhere(setup_arguments):
  version = setup_arguments["version"]
  assert hseg_jax.__version__ == version
  assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
  assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1] == version


def test_quickstart_trains_in_the_checkout_and_says_where_the_report_is(checkout):
  report = checkout.root / "runs/quickstart/report.html"
  report.parent.mkdir(parents=True)
  report.touch()
  result = checkout.run("launch/quickstart.sh", "--config.seed=1")
  assert result.returncode == 0, result.stderr
  assert result.stdout.splitlines()[-1] == f"Report: {report}"
  assert checkout.calls()[-1] == (
    f"hseg in {checkout.root}: <train> <--config> <configs/cast_tiny_partworld_graph.py> "
    "<--workdir> <runs/quickstart> <--config.seed=1>"
  )


def test_tests_get_their_arguments(checkout):
  result = checkout.run("launch/test.sh", "-m", "not slow")
  assert result.returncode == 0, result.stderr
  called = checkout.calls()[-2]
  assert called.startswith("pytest ") and called.endswith(" <-m> <not slow>")


def test_environment_is_made_once(checkout):
  checkout.run("launch/test.sh")
  assert installs(checkout.calls()) == 1
  checkout.run("launch/quickstart.sh")
  assert installs(checkout.calls()) == 0


def change_pins(checkout):
  (checkout.root / "requirements.txt").open("a").write("one-more==1.0\n")


def change_setup(checkout):
  (checkout.root / "setup.py").open("a").write("# changed\n")


def break_interpreter(checkout):
  (checkout.root / ".venv/bin/python").unlink()


def interrupt(checkout):
  change_pins(checkout)
  assert checkout.run("launch/test.sh", PIP_FAILS="yes").returncode == 1
  checkout.calls()


@pytest.mark.parametrize("damage", [change_pins, change_setup, break_interpreter, interrupt])
def test_environment_that_no_longer_fits_is_made_anew(checkout, damage):
  checkout.run("launch/test.sh")
  checkout.calls()
  damage(checkout)
  checkout.run("launch/test.sh")
  assert installs(checkout.calls()) == 1
  checkout.run("launch/test.sh")
  assert installs(checkout.calls()) == 0


def test_explicit_python_of_another_version_makes_the_environment_anew(checkout):
  checkout.add_command("python3.12", PYTHON.replace("VERSION", "3.12"))
  for variables, expected in (({}, 1), ({"PYTHON": "python3.12"}, 1), ({}, 0)):
    checkout.run("launch/test.sh", **variables)
    assert installs(checkout.calls()) == expected


@pytest.mark.parametrize("version", ["2.7", "3.9", "3.10", None])
def test_old_or_absent_python_is_refused_in_one_line(checkout, version):
  if version:
    checkout.add_command("old", PYTHON.replace("VERSION", version))
  result = checkout.run("launch/quickstart.sh", PYTHON="old")
  assert result.returncode == 2
  (line,) = result.stderr.splitlines()
  assert (f"{version}; 3.11 or newer" if version else "does not run") in line
  assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize("with_shared", [False, True])
def test_ci_makes_a_fresh_environment_and_finds_shared_data(checkout, with_shared):
  checkout.run("launch/test.sh")
  checkout.calls()
  shared = checkout.root.parent / "shared"
  if with_shared:
    shared.mkdir()
  result = checkout.run(".ci/run")
  calls = checkout.calls()
  assert result.returncode == 0, result.stderr
  assert installs(calls) == 1
  assert calls[-2].startswith("pytest ") and "<-m>" not in calls[-2]  # all of them
  assert calls[-1] == f"shared {shared if with_shared else ''}"


def test_gpu_host_installs_cuda_and_hands_its_arguments_on(checkout):
  checkout.add_command("nvidia-smi", "#!/usr/bin/env bash\n")
  result = checkout.run("launch/gpu_host.sh", "--config", "x.py", "--workdir", "a b")
  assert result.returncode == 0, result.stderr
  calls = checkout.calls()
  assert calls[-2].endswith(f"--editable {checkout.root}[gpu]")
  assert calls[-1] == f"hseg in {checkout.elsewhere}: <train> <--config> <x.py> <--workdir> <a b>"


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU")
def test_gpu_host_without_driver_is_refused(checkout):
  result = checkout.run("launch/gpu_host.sh")
  assert result.returncode == 2 and "nvidia-smi" in result.stderr


def test_tpu_pod_runs_the_last_commit_on_all_workers(checkout):
  worker = checkout.root.parent / "worker"
  worker.mkdir()
  git = ["git", "-C", str(checkout.root), "-c", "user.name=n", "-c", "user.email=e"]
  for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
    subprocess.run([*git, *command], check=True)
  (checkout.root / "launch/test.sh").write_text("not committed")
  checkout.add_command("gcloud", GCLOUD)
  result = checkout.run(
    "launch/tpu_pod.sh", "--workdir", "a 'b'", "$c", TPU="t", ZONE="z", WORKER=str(worker)
  )
  assert result.returncode == 0, result.stderr
  scp, ssh, *rest = checkout.calls()
  assert scp.endswith("<t:hseg_jax.tar.gz> <--zone=z> <--worker=all> ")
  assert ssh.startswith("gcloud ssh <t> <--zone=z> <--worker=all> ")
  assert rest[-2].endswith(f"--editable {worker}/hseg_jax[tpu]")
  assert rest[-1] == f"hseg in {worker}/hseg_jax: <train> <--workdir> <a 'b'> <$c>"
  assert (worker / "hseg_jax/launch/test.sh").read_text() == (ROOT / "launch/test.sh").read_text()


def test_tpu_pod_wants_a_name_and_a_zone(checkout):
  result = checkout.run("launch/tpu_pod.sh", "--workdir", "w", TPU="t")
  assert result.returncode == 2 and "ZONE" in result.stderr
