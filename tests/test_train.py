"""The loop: what a run leaves, exact resume, the right start, and stops with one clear sentence."""

import dataclasses
import json
import shutil
import types
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run
from PIL import Image
from test_train_step import setup

from configs import common
from hseg_jax import evaluate, experiment, export, train
from hseg_jax.errors import UserError
from hseg_jax.objectives import supervised
from hseg_jax.training import checkpoint
from hseg_jax.training import state as states


def lines(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_equal(found, wanted):
  """Bit for bit, leaf by leaf."""
  found, wanted = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (found, wanted))
  assert found.keys() == wanted.keys()
  for path, leaf in wanted.items():
    np.testing.assert_array_equal(found[path], leaf, err_msg=jax.tree_util.keystr(path))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The workdir of a finished supervised run of four steps."""
  workdir = tmp_path_factory.mktemp("run")
  train.train_and_evaluate(tiny_run.config("supervised"), workdir)
  return workdir


@pytest.fixture
def copy(run, tmp_path):
  return shutil.copytree(run, tmp_path / "copy")


def test_a_run_leaves_what_it_promises(run):
  found = lines(run)
  assert [line["step"] for line in found] == [0, 1, 2, 3, 4, 4]
  assert {"val/top1", "val/top5", "val/loss"} <= found[0].keys() & found[-1].keys()
  assert {"train/loss", "train/grad_norm", "train/top1"} <= found[1].keys()
  assert {p.name for p in (run / "checkpoints").iterdir()} == {"2", "4"}
  settings = json.loads((run / "config.json").read_text())
  assert settings["model"]["num_classes"] == 16 == len(settings["class_names"])
  assert list((run / "summaries").iterdir())
  report = (run / "report.html").read_text()
  assert "val/top1" in report and "multiply-adds per image" in report
  # Whoever kills the run between the two has it go on, and so the report is never missing.
  last_checkpoint = (run / "checkpoints" / "4").stat()
  assert (run / "report.html").stat().st_mtime_ns < last_checkpoint.st_mtime_ns


def test_running_again_reuses_a_finished_run(copy):
  before = (copy / "metrics.jsonl").read_text()
  state = train.train_and_evaluate(tiny_run.config("supervised"), copy)
  assert state.step == 4 and (copy / "metrics.jsonl").read_text() == before


def test_metrics_behind_the_restored_step_are_forgotten(copy):
  shutil.rmtree(copy / "checkpoints/4")
  wanted = [{k: v for k, v in line.items() if "images" not in k} for line in lines(copy)]
  with (copy / "metrics.jsonl").open("a") as file:
    file.write('{"step": 9, "tr')  # killed while it wrote
  train.train_and_evaluate(tiny_run.config("supervised"), copy)
  assert [{k: v for k, v in line.items() if "images" not in k} for line in lines(copy)] == wanted


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
  original = supervised.SupervisedLoss.__call__

  def diverging(self, params, state, batch, rng):
    loss, rest = original(self, params, state, batch, rng)
    return jnp.where(state.step == 3, jnp.nan, loss), rest

  monkeypatch.setattr(supervised.SupervisedLoss, "__call__", diverging)
  config = tiny_run.config("supervised", num_steps=6, checkpoint__every_steps=2)
  with pytest.raises(UserError, match="loss became nan at step 4; the last good checkpoint"):
    train.train_and_evaluate(config, tmp_path)
  assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"0", "2"}
  assert lines(tmp_path)[-1]["step"] == 3


def test_a_step_that_ruins_the_parameters_is_not_saved(tmp_path):
  config = tiny_run.config("supervised", optimizer__learning_rate=1e38, checkpoint__every_steps=1)
  with pytest.raises(UserError, match="param_norm became inf at step 1"):
    train.train_and_evaluate(config, tmp_path)
  assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"0"}


def test_another_config_is_refused_by_name_unless_allowed(copy):
  config = tiny_run.config("supervised", optimizer__weight_decay=0.5, num_steps=6)
  with pytest.raises(UserError, match=r"num_steps \(4 -> 6\), optimizer.weight_decay"):
    train.train_and_evaluate(config, copy)
  allowed = config.copy_and_resolve_references().unlock()
  allowed.allow_config_change = True
  assert train.train_and_evaluate(allowed, copy).step == 6
  # A shorter length finds nothing to do, and what made the run stays on record.
  allowed.num_steps = 2
  assert train.train_and_evaluate(allowed, copy).step == 6
  assert json.loads((copy / "config.json").read_text())["num_steps"] == 6


def test_resume_takes_the_whole_state_of_another_run(run, tmp_path):
  config = tiny_run.config("supervised", resume=str(run))
  assert train.train_and_evaluate(config, tmp_path / "new").step == 4
  assert_equal(checkpoint.load(tmp_path / "new"), checkpoint.load(run))
  with pytest.raises(UserError, match="batch_size"):
    train.train_and_evaluate(
      tiny_run.config("supervised", resume=str(run), batch_size=4), tmp_path / "other"
    )


@pytest.fixture(scope="module")
def weights(run, tmp_path_factory):
  folder = tmp_path_factory.mktemp("weights")
  export.export(run, folder)
  return folder


@pytest.mark.parametrize("objective", ["supervised", "contrastive"])
def test_init_from_takes_parameters_and_statistics_only(run, weights, objective, tmp_path):
  skip = () if objective == "supervised" else ("head",)
  config = tiny_run.config(objective, init_from=str(weights), init_from_skip=skip)
  e = experiment.setup(config.to_dict())
  checkpointer = checkpoint.Checkpointer(tmp_path, every_steps=1, keep=1)
  state = train.restore_or_create(e, checkpointer)
  checkpointer.close()
  saved = checkpoint.load(run)
  variables = e.objective.model_variables(state.params, state.batch_stats)
  if objective == "contrastive":
    saved["ema"].pop("head")
    assert_equal(state.target["params"]["encoder"], saved["ema"])
  assert_equal(variables, {"params": saved["ema"], "batch_stats": saved["batch_stats"]})
  assert_equal(state.ema, state.params)
  assert state.step == 0


def test_a_run_of_another_objective_does_not_fit(run, tmp_path):
  with pytest.raises(UserError, match="do not fit the config's model: params/head"):
    evaluate.evaluate(tiny_run.config("contrastive"), workdir=run, out=tmp_path)


def test_classes_of_other_names_are_warned_of(weights, tmp_path, caplog):
  config = tiny_run.config("supervised")
  renamed = shutil.copytree(weights, tmp_path / "renamed")
  info = json.loads((renamed / "model.json").read_text())
  e = experiment.setup(config.to_dict())
  evaluate._compare_classes(info["class_names"], e)
  assert caplog.text == ""
  projector = e.model.clone(head_kind="projector")  # of which no output is a class
  evaluate._compare_classes(info["class_names"][::-1], dataclasses.replace(e, model=projector))
  assert caplog.text == ""
  ours, info["class_names"][2] = info["class_names"][2], "unicorn"
  (renamed / "model.json").write_text(json.dumps(info))
  evaluate.evaluate(config, weights=renamed, out=tmp_path)
  assert f"Class 2 of the model is 'unicorn', of the data {ours!r}" in caplog.text


def test_a_classifier_is_evaluated_on_images_that_have_masks_only(run, tmp_path):
  for folder, mode in (("images", "RGB"), ("masks", "L")):
    (tmp_path / folder).mkdir()
    for i in range(4):
      Image.new(mode, (32, 32), i % 2).save(tmp_path / folder / f"{i}.png")
  data = dict(data__source="masks", data__root=str(tmp_path))
  data |= dict(data__train_split="all[:2]", data__val_split="all[2:]")
  config = tiny_run.config("supervised", **data).unlock()
  config.evaluators = {"retrieval": common.retrieval()}
  found = evaluate.evaluate(config, workdir=run, out=tmp_path / "out")
  assert found["val/retrieval/kmeans/4/label/oracle_miou"] == 1.0
  with pytest.raises(UserError, match="needs images with classes"):
    evaluate.evaluate(tiny_run.config("supervised", **data), workdir=run, out=tmp_path / "out")


def test_init_from_another_number_of_classes_wants_a_skip(run, weights, tmp_path):
  flat, _ = evaluate.exported.load_exported(weights)
  e = experiment.setup(tiny_run.config("supervised").to_dict())
  state = setup(tiny_run.config("supervised"))[0]
  narrow = flat | {"params/head/kernel": np.zeros((16, 3), np.float32)}
  with pytest.raises(UserError, match=r"params/head/kernel of shape \(16, 3\).*init_from_skip"):
    train.initialize_from(state, e.objective, narrow, skip=())
  kept = train.initialize_from(state, e.objective, narrow, skip=("head",))
  assert_equal(kept.params["head"], state.params["head"])
  missing = {name: w for name, w in flat.items() if "cls_token" not in name}
  with pytest.raises(UserError, match="init_from has no params/cls_token"):
    train.initialize_from(state, e.objective, missing, skip=())
  surplus = flat | {"params/extra/kernel": np.zeros(3)}
  with pytest.raises(UserError, match="params/extra/kernel, which the model has not"):
    train.initialize_from(state, e.objective, surplus, skip=())
  unused = {"params/pool_0/path/scale": np.float32(2)}
  found = train.initialize_from(state, e.objective, flat | unused, skip=())
  np.testing.assert_array_equal(found.params["head"]["kernel"], flat["params/head/kernel"])
  with pytest.raises(UserError, match="names 'haed'; the parts are .*head"):
    train.initialize_from(state, e.objective, flat, skip=("haed",))
  with pytest.raises(UserError, match="init_from has no "):
    train.initialize_from(state, e.objective, {"weight": np.zeros(3)}, skip=())


def test_weights_without_paths_start_a_model_with_them():
  pool = {"bias": jnp.zeros(2), "path": {"scale": jnp.float32(0.5)}}
  objective = types.SimpleNamespace(
    model_variables=lambda params, batch_stats: {"params": params},
    with_model=lambda state, variables: state.replace(**variables),
  )
  params = {"pool_0": pool}
  state = states.TrainState(jnp.int32(0), params, {}, (), None, None, jax.random.key(0))
  weights = {"params/pool_0/bias": np.ones(2)}
  found = train.initialize_from(state, objective, weights, skip=()).params["pool_0"]
  assert found["path"]["scale"] == 0.5 and found["bias"].tolist() == [1, 1]
  weights["params/pool_0/path/scale"] = np.float32(2)
  found = train.initialize_from(state, objective, weights, skip=()).params["pool_0"]
  assert found["path"]["scale"] == 2


def test_a_changed_number_of_classes_is_refused(copy):
  settings = json.loads((copy / "config.json").read_text())
  settings["class_names"].pop()
  settings["model"]["num_classes"] = 15
  (copy / "config.json").write_text(json.dumps(settings))
  with pytest.raises(UserError, match=r"class_names.*model.num_classes \(15 -> 16\)"):
    train.train_and_evaluate(tiny_run.config("supervised"), copy)


def test_bfloat16_keeps_parameters_float32():
  state, step, batches = setup(tiny_run.config("contrastive", model__dtype="bfloat16"))
  state, metrics = step(state, next(batches))
  assert np.isfinite(float(metrics["loss"]))
  assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.target))} == {
    jnp.dtype("float32")
  }


@pytest.mark.parametrize(
  ("trained", "given", "found"),
  [({"segment_mean": "area"}, None, "area"), ({}, None, "nearest"), ({}, "bilinear", "bilinear")],
)
def test_tokens_are_averaged_in_evaluation_as_in_training(
  trained, given, found, tmp_path, monkeypatch
):
  config = tiny_run.config("supervised", superpixels__method="device").to_dict()
  config["model"] |= {"name": "cast_tiny", "segment_mean": given}
  seen = mock.Mock(side_effect=UserError("enough"))
  monkeypatch.setattr(evaluate.experiments, "setup", seen)
  monkeypatch.setattr(evaluate, "load_run", lambda workdir: ({}, 1, {"model": trained}))
  with pytest.raises(UserError, match="enough"):
    evaluate.evaluate(config, workdir="any", out=tmp_path)
  assert seen.call_args.args[0]["model"]["segment_mean"] == found
