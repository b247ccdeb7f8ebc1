"""The command line: what works, and one line with exit code 2 for every mistake."""

import json
import pathlib
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from hseg_jax import cli, config_file, evaluate, load_exported
from hseg_jax.errors import UserError
from hseg_jax.training import sharding

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
QUICK = str(CONFIGS / "vit_conv_tiny_partworld.py:smoke")
SMALLER = [
  f"--config.{field}"
  for field in (
    "model.dim=16",
    "model.num_heads=2",
    "model.position_grid=(4, 4)",
    "data.image_size=32",
    "evaluators.hierarchy.num_pictures=0",
  )
]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
  """The backend of this process runs already; joining others is tested elsewhere."""
  monkeypatch.setattr(sharding, "initialize_distributed", lambda: None)


def refused(capsys, *argv):
  """The one line with which the command refuses, behind the warnings if there are any."""
  assert cli.main(argv) == 2
  out, err = capsys.readouterr()
  assert "Traceback" not in out + err
  lines = [line for line in err.splitlines() if "another image takes its place" not in line]
  assert len(lines) == 1, err
  return lines[0]


def train(capsys, workdir, *options, config=QUICK):
  return refused(capsys, "train", "--config", config, "--workdir", str(workdir), *options)


@pytest.mark.slow
def test_train_evaluate_export(tmp_path, capsys):
  run, weights = str(tmp_path / "run"), str(tmp_path / "weights")
  assert cli.main(["train", "--config", QUICK, "--workdir", run, *SMALLER]) == 0
  assert "step 2/2" in capsys.readouterr().out

  assert cli.main(["export", "--workdir", run, "--out", weights]) == 0
  flat, info = load_exported(weights)
  assert info["num_parameters"] == sum(v.size for k, v in flat.items() if k.startswith("params/"))
  assert info["model"]["num_classes"] == 16 == len(info["class_names"])
  assert info["metrics"]["val/top1"] >= 0 and info["config"]["batch_size"] == 4
  assert "model.json exists" in refused(capsys, "export", "--workdir", run, "--out", weights)

  found = []
  for origin in (["--workdir", run], ["--weights", weights]):
    out = str(tmp_path / origin[0])
    assert cli.main(["evaluate", "--config", QUICK, *origin, "--out", out, *SMALLER]) == 0
    found.append(json.loads(pathlib.Path(out, "metrics.json").read_text()))
  trained = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
  assert found[0] == trained and found[1] == trained | {"step": None}

  again = ["evaluate", "--config", QUICK, "--workdir", run, "--out", out]
  assert "metrics.json exists" in refused(capsys, *again)
  assert "do not fit the config's model" in refused(capsys, *again, "--force")


def test_unknown_fields_name_the_nearest(tmp_path, capsys):
  said = train(capsys, tmp_path, "--config.optimizer.learning_rat=1")
  assert "no field 'optimizer.learning_rat'; the nearest is 'optimizer.learning_rate'" in said


@pytest.mark.parametrize(
  "override", ["batch_size=four", "data.image_size=6.5", "resume", "model.depths=2", "seed=True"]
)
def test_wrong_types_are_refused(override, tmp_path, capsys):
  said = train(capsys, tmp_path, f"--config.{override}")
  assert "is not of type" in said or "needs a value" in said
  assert override.partition("=")[0] in said


@pytest.mark.parametrize(
  ("override", "kind"),
  [
    ("levels=(0.5,)", "int"),
    ("levels=('coarse',)", "int"),
    ("levels=(True,)", "int"),
    ("classes=(1,)", "str"),
  ],
)
def test_what_a_tuple_holds_has_a_type_too(override, kind):
  spec = f"{CONFIGS / 'retrieval.py'}:cast_tiny_folder"
  with pytest.raises(UserError, match=f"retrieval.*holds.*not of type {kind}"):
    config_file.load_config(spec, [f"evaluators.retrieval.{override}"])


def test_whole_numbers_may_stand_for_fractions_in_a_tuple():
  spec, field = f"{CONFIGS / 'linear_probe.py'}:cast_tiny_folder", "linear_probe.learning_rates"
  config = config_file.load_config(spec, [f"evaluators.{field}=(1, 0.5)"])
  assert config.evaluators.linear_probe.learning_rates == (1, 0.5)


def test_what_a_config_leaves_open_may_be_none():
  overrides = ["data.num_train=None", "model.position=None"]
  config = config_file.load_config(str(CONFIGS / "cast_tiny_folder.py"), overrides)
  assert config.data.num_train is None and config.model.position is None
  with pytest.raises(UserError, match="batch_size=None: only a field that the config leaves open"):
    config_file.load_config(str(CONFIGS / "cast_tiny_folder.py"), ["batch_size=None"])


def test_overrides_have_the_fields_type():
  overrides = [
    "batch_size=8",
    "num_epochs=2",
    "model.depths=[1]",
    "model.remat=true",
    "init_from_skip=('head',)",
    "data.root=a=b",
    "optimizer.learning_rate=1e-2",
  ]
  config = config_file.load_config(str(CONFIGS / "cast_tiny_folder.py"), overrides)
  assert (config.batch_size, config.num_epochs, config.model.depths) == (8, 2.0, (1,))
  assert (config.model.remat, config.init_from_skip, config.data.root) == (True, ("head",), "a=b")
  assert config.optimizer.learning_rate == 0.01


@pytest.mark.parametrize(
  ("options", "said"),
  [
    (["--config.model.name=cast_tny"], "did you mean 'cast_tiny'"),
    (["--config.data.image_size=68"], "not divisible by the stem's stride of 8"),
    (
      ["--config.data.source=folder", "--config.data.root=/nowhere"],
      "/nowhere/train does not exist",
    ),
    (["--config.data.source=disk"], 'Unknown data.source "disk"'),
    (["--config.optimizer.name=adam"], "known optimizers: adamw"),
    (["--config.optimizer.decay=some"], "must be 'all' or 'no_1d'"),
    (["--config.objective.name=byol"], "known objectives: supervised, contrastive"),
    (["--config.data.augment=moco"], "does not go with data.augment='moco'"),
    (["--config.superpixels.method=seeds"], "takes no superpixels"),
    (["--config.batch_size=6"], "cannot be shared by 4 devices"),
    (["--config.num_epochs=3"], "exactly one must be positive"),
    (["--config.resume=/nowhere"], "/nowhere holds no checkpoint"),
    (["--config.init_from=/nowhere"], "/nowhere is no weights folder"),
    (["--unknown"], "Unknown argument '--unknown'"),
  ],
)
def test_mistakes_end_in_one_line(options, said, tmp_path, capsys):
  smaller = [o for o in SMALLER if "image_size" not in o or "image_size" not in options[0]]
  assert said in train(capsys, tmp_path / "run", *smaller, *options)


def test_an_unknown_evaluator_is_refused(tmp_path, capsys):
  path = tmp_path / "mine.py"
  text = "from configs import common\n\ndef get_config(arg=''):\n  c = common.base()\n"
  path.write_text(text + "  c.num_steps = 1\n  c.evaluators.clasification = {}\n  return c\n")
  assert "no evaluator 'clasification'" in train(capsys, tmp_path / "run", config=str(path))
  path.write_text(
    text + "  c.num_steps = 1\n  c.evaluators.classification = {'k': 1}\n  return c\n"
  )
  assert "no option 'k'" in train(capsys, tmp_path / "run", config=str(path))


def test_broken_configs_are_refused(tmp_path, capsys):
  assert "no config file" in train(capsys, tmp_path, config=str(tmp_path / "none.py"))
  path = tmp_path / "broken.py"
  path.write_text("def get_config(arg):\n  return 1 / 0\n")
  assert "ZeroDivisionError" in train(capsys, tmp_path, config=str(path))
  path.write_text("def get_config(arg):\n  pass\n")
  assert "get_config returns no ConfigDict" in train(capsys, tmp_path, config=str(path))
  text = "from configs import common\ndef get_config(arg):\n  c = common.base()\n"
  path.write_text(text + "  c.optimizer.learning_rat = 1\n  return c\n")
  assert 'Did you mean "learning_rate"' in train(capsys, tmp_path, config=str(path))
  path.write_text("this is no Python")
  assert "SyntaxError" in train(capsys, tmp_path, config=str(path))
  assert "'tiny' is no form" in train(capsys, tmp_path, config=QUICK.replace("smoke", "tiny"))


def test_a_config_may_lie_anywhere(monkeypatch):
  monkeypatch.setattr(config_file.pathlib.Path, "resolve", lambda path: pathlib.Path("/mine.py"))
  assert config_file.load_config(QUICK).num_steps == 2


def test_a_run_whose_config_lacks_fields_is_named(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(UserError, match="config.json is damaged: it has no field 'model'"):
    evaluate.load_run(tmp_path)


def test_too_many_bad_images_stop_the_run(tmp_path, capsys):
  for folder in ("train/a", "train/b", "val/a", "val/b"):
    (tmp_path / "data" / folder).mkdir(parents=True)
    for i in range(4):
      Image.new("RGB", (32, 32)).save(tmp_path / "data" / folder / f"{i}.png")
  for i in range(3):
    (tmp_path / "data/train/a" / f"{i}.png").write_bytes(b"no image")
  options = ["--config.data.source=folder", f"--config.data.root={tmp_path}/data", *SMALLER]
  options += ["--config.data.max_bad_images=2"]
  config = str(CONFIGS / "vit_conv_tiny_folder.py:smoke")
  options.remove("--config.evaluators.hierarchy.num_pictures=0")
  for workers in (0, 1):
    said = train(
      capsys,
      tmp_path / f"run_{workers}",
      *options,
      f"--config.data.num_workers={workers}",
      config=config,
    )
    assert "more than data.max_bad_images=2 allows" in said and ".png" in said
    assert "worker" not in said.lower()


def test_commands_and_arguments(capsys):
  assert "required" in refused(capsys)
  assert "required" in refused(capsys, "train")
  assert "invalid choice" in refused(capsys, "fly")
  assert "not allowed with" in refused(
    capsys, "evaluate", "--config", QUICK, "--out", "o", "--workdir", "w", "--weights", "w"
  )
  assert "holds no run" in refused(capsys, "export", "--workdir", "/nowhere", "--out", "o")


def test_the_installed_command_prints_no_traceback(tmp_path):
  command = [sys.executable, "-m", "hseg_jax.cli", "train", "--config", "none.py"]
  found = subprocess.run([*command, "--workdir", tmp_path], capture_output=True, text=True)
  assert found.returncode == 2 and found.stderr == "hseg: There is no config file none.py.\n"


def test_an_error_of_the_programs_is_not_hidden(monkeypatch):
  monkeypatch.setattr(cli, "_run", lambda argv: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    cli.main([])
  assert issubclass(UserError, ValueError)


def test_only_a_process_of_its_own_is_adapted(monkeypatch):
  adapt = mock.Mock()
  monkeypatch.setattr(cli.allocation, "adapt", adapt)
  monkeypatch.setattr(cli, "_train", lambda arguments, overrides: None)
  command = ["train", "--config", "any.py", "--workdir", "any"]
  assert cli.main(command) == 0 and not adapt.called
  monkeypatch.setattr(sys, "argv", ["hseg", *command])
  assert cli.main() == 0 and adapt.called


def test_scores_do_not_wait_for_jax():
  code = "import sys; from hseg_jax import cli; print(cli.main(), 'jax' in sys.modules)"
  words = ["score", "bsds", "--predictions", "none", "--ground-truth", "none", "--out", "none"]
  found = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
  assert found.stdout == "2 False\n", found.stderr


def test_an_interrupt_ends_without_a_traceback(capsys, monkeypatch):
  monkeypatch.setattr(cli, "_run", mock.Mock(side_effect=KeyboardInterrupt))
  assert cli.main([]) == 130
  assert capsys.readouterr().err == ""


def test_scores_are_written_last_and_whole(tmp_path):
  class Unwritable:
    pass

  (tmp_path / "val").write_text("in the way of a folder")
  picture = {"val/picture": np.zeros((2, 2, 3), np.uint8)}
  with pytest.raises(UserError, match="val/picture.png cannot be written"):
    evaluate._write(tmp_path, {"val/top1": 0.5}, picture)
  with pytest.raises(TypeError):
    evaluate._write(tmp_path, {"val/top1": Unwritable()}, {})
  assert [path.name for path in tmp_path.iterdir()] == ["val"]


def test_a_reader_who_stops_reading_is_no_error():
  code = "import sys\nfrom hseg_jax import cli\ncli._run = lambda argv: print('x' * 10**6)\n"
  command = [sys.executable, "-c", code + "sys.exit(cli.main([]))"]
  broken = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
  broken.stdout.close()
  assert broken.stderr.read() == b""
  assert broken.wait() == 141
