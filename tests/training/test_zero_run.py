"""Runs under DeepSpeed ZeRO, with gloo between real processes on this machine."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from scripts.evaluate import main as evaluate
from tests.fork_server import python
from tests.training.killing import trained_weights
from tests.training.zero_processes import SCRIPT, kill_after, outcome, start, train

from textassay.artifacts.hallmark import verify
from textassay.artifacts.zero.checkpoint import open_checkpoint
from textassay.config.load import resolve_job
from textassay.config.runs import Run
from textassay.files import read_json
from textassay.training.checkpoints import is_complete
from textassay.training.run import run_training

pytestmark = pytest.mark.slow
pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")
# 80 rows, two processes with batches of 4: ten steps an epoch.
SETTINGS = {
    "data_name": "sentiment5_en", "max_samples": 80, "max_seq_length": 32, "precision": "fp32",
    "num_train_epochs": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3,
    "eval_strategy": "steps", "eval_steps": 5, "save_strategy": "steps", "save_steps": 3,
    "save_total_limit": 3, "bootstrap_samples": 100, "probe_rows": 4, "device": "cpu",
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full", "zero_stage": 3},
    "lora": {"method": "lora", "target_modules": "query,value", "zero_stage": 2},
}


@pytest.fixture(scope="module")
def settings(tiny_base: Path) -> dict[str, Any]:
    return {**SETTINGS, "model_name_or_path": tiny_base}


@pytest.fixture(scope="module", params=METHODS)
def unbroken(
    request: pytest.FixtureRequest, settings: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """A run of two processes that nobody disturbed, and its settings."""
    chosen = {**settings, **METHODS[request.param]}
    folder = tmp_path_factory.mktemp(request.param) / "run"
    train(folder, **chosen)
    return folder, chosen


def test_the_artifact_is_the_best_checkpoint(unbroken: tuple[Path, dict[str, Any]]) -> None:
    run, _ = unbroken
    best = run / read_json(run / "train_results.json")["best_checkpoint"]
    masters = dict(open_checkpoint(best).tensors())
    saved = load_file(next((run / "model").glob("*model.safetensors")))
    plain = {name.replace(".default", "").replace(".modules_to_save", ""): tensor
             for name, tensor in masters.items()}  # fmt: skip
    assert plain.keys() == saved.keys() and len(saved) > 9
    assert all(torch.equal(plain[name], saved[name]) for name in saved)
    assert "4 probe rows within" in verify(run / "model")
    kept = sorted(path.name for path in run.glob("checkpoint-*"))
    assert len(kept) == 3 and {best.name, "checkpoint-20"} <= set(kept)


def test_the_evaluator_agrees_on_run_artifact_and_checkpoint(
    unbroken: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run, _ = unbroken
    best = run / read_json(run / "train_results.json")["best_checkpoint"]
    assert not (run / "test_results.json").exists(), "the test rows are the evaluator's"
    found = []
    for number, place in enumerate(
        (run, run / "model", best, best / f"global_step{best.name[11:]}")
    ):
        flags = [] if place == run else ["--output_dir", str(tmp_path / str(number))]
        done = CliRunner().invoke(evaluate, [str(place), *flags])
        assert done.exit_code == 0, done.output
        results = read_json((run if place == run else tmp_path / str(number)) / "test_results.json")
        found.append({k: v for k, v in results.items() if k not in ("hallmark", "evaluated")})
    assert found[0]["test_rows"] == 80 and found[0]["baselines"]
    assert found[1] == found[0] and found[3] == found[2]
    # A checkpoint is not calibrated, so what a temperature changes is as it was before.
    calibrated, probable = found[0]["calibration"], ("log_loss", "ece", "roc_auc")
    assert calibrated["temperature"] != 1 and found[2]["calibration"] is None
    for name in ("log_loss", "ece"):
        assert found[2][f"test_{name}"] == calibrated["before"][name]["value"]
    others = found[0].keys() - {"calibration", "intervals", *(f"test_{n}" for n in probable)}
    assert {name: found[2][name] for name in others} == {name: found[0][name] for name in others}
    assert "A checkpoint is not calibrated" in done.output
    for name in ("report.html", "test_summary.txt", "predictions.parquet", "confusion_matrix.png"):
        assert (run / name).is_file() and (tmp_path / "1" / name).is_file()
    again = CliRunner().invoke(evaluate, [str(run)])
    assert again.exit_code == 0, again.output
    assert "Every figure is the run's own, to the last digit" in again.output


def test_a_killed_run_ends_with_the_same_weights(
    unbroken: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run, chosen = unbroken
    broken = tmp_path / "broken"
    kill_after(broken, "checkpoint-12", 0.2, **chosen)
    said = train(broken, **chosen)
    assert "resuming   from checkpoint-" in said
    assert trained_weights(broken) == trained_weights(run)
    histories = (
        read_json(folder / "trainer_state.json")["log_history"] for folder in (run, broken)
    )
    losses = [[e["eval_loss"] for e in history if "eval_loss" in e] for history in histories]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_a_stopped_run_ends_with_the_same_weights(
    unbroken: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """All processes end at the same step: with full the launcher is told, with LoRA one of them."""
    run, chosen = unbroken
    broken = tmp_path / "broken"
    process = start(broken, 2, **chosen)
    while process.poll() is None and not (broken / "checkpoint-6" / "complete.json").exists():
        time.sleep(0.01)
    whom = psutil.Process(process.pid)
    whom = whom if chosen["method"] == "full" else whom.children()[1]
    whom.send_signal(signal.SIGUSR1)
    code, said = outcome(process)
    assert code == 75, said
    step = int(re.search(r"stopped by .* at step (\d+)", said)[1])
    assert 6 <= step < 20 and is_complete(broken / f"checkpoint-{step}")
    assert f"resuming   from checkpoint-{step}" in train(broken, **chosen)
    assert trained_weights(broken) == trained_weights(run)
    losses = [
        [e["eval_loss"] for e in read_json(one / "trainer_state.json")["log_history"]
         if "eval_loss" in e] for one in (run, broken)
    ]  # fmt: skip
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_another_number_of_processes_carries_the_weights_over(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """From two to one, killed again, and back to two: ten steps an epoch are twenty of one."""
    run, chosen = tmp_path / "run", {**settings, **METHODS["full"], "save_total_limit": 9}
    kill_after(run, "checkpoint-6", 0.0, **chosen)
    kill_after(run, "checkpoint-36", 0.0, processes=1, **chosen)
    said = train(run, 2, **chosen)
    assert "of 1 process and these are 2" in said and "the optimizer starts anew" in said
    parts = [run / "carried-over" / number for number in "12"]
    for part, processes in zip(parts, (2, 1), strict=True):
        came_from = read_json(part / "part.json")
        assert came_from["processes"] == processes
        weights = load_file(part / "weights" / "model.safetensors")
        masters = dict(open_checkpoint(part / came_from["checkpoint"]).tensors())
        assert all(torch.equal(weights[name], masters[name]) for name in masters)
    before, after = (
        read_json(parts[0] / f"trainer_state{which}.json") for which in ("_before", "")
    )
    assert after["global_step"] == 2 * before["global_step"] and after["max_steps"] == 40
    state = read_json(run / "trainer_state.json")
    steps = [entry["step"] for entry in state["log_history"] if "eval_loss" in entry]
    assert state["global_step"] == 20 and steps == sorted(steps) and len(steps) > 4
    best = read_json(run / "train_results.json")["best_checkpoint"]
    saved = load_file(run / "model" / "model.safetensors")
    masters = dict(open_checkpoint(run / best).tensors())
    assert all(torch.equal(saved[name], masters[name]) for name in masters)
    assert "probe rows within" in verify(run / "model")


def test_one_process_trains_as_the_full_launcher_does(
    settings: dict[str, Any], tiny_base: Path, tmp_path: Path
) -> None:
    """The same rows in the same order from the same head: one core under all launchers."""
    short = {**settings, "per_device_train_batch_size": 8, "num_train_epochs": 1,
             "eval_steps": 10, "lr_scheduler_type": "constant", "warmup_steps": 0}  # fmt: skip
    train(tmp_path / "zero", 1, **short, method="full")
    from textassay.config.aliases import keys_of_flags

    given = {keys_of_flags()[name]: str(value) for name, value in short.items()}
    job, _ = resolve_job(None, None, {}, given, "full")
    run_training(Run(job, 0, tmp_path / "full"))
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors")
                    for name in ("zero", "full"))  # fmt: skip
    assert ours.keys() == theirs.keys()
    before = load_file(tiny_base / "model.safetensors")
    shared = [name for name in before if name in ours]
    moved = torch.cat([(ours[n] - before[n]).abs().flatten() for n in shared]).mean()
    apart = torch.cat([(ours[n] - theirs[n]).abs().flatten() for n in ours]).mean()
    # Adam turns the noise of a gradient near 0 into a step of its own, so a few numbers differ.
    assert moved > 1e-3 and apart < 0.01 * moved, (float(moved), float(apart))


def test_a_tensor_that_does_not_move_stops_the_run(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """The optimizer is given everything but the head."""
    patch = (
        "import sys\n"
        "from textassay.training.ranks import prepare_rank\n"
        "prepare_rank('cpu')\n"
        "from textassay.training.zero_trainer import ZeroTrainer\n"
        "whole = ZeroTrainer.create_optimizer\n"
        "def without_head(self):\n"
        "    made = whole(self)\n"
        "    for group in made.param_groups:\n"
        "        group['params'] = [p for p in group['params'] if p.shape != (5, 32)]\n"
        "    return made\n"
        "ZeroTrainer.create_optimizer = without_head\n"
        "from textassay.commands.train_deepspeed import main\n"
        "main()\n"
    )
    flags = [f"--{name}={value}" for name, value in {**settings, "method": "full"}.items()]
    done = subprocess.run(
        [sys.executable, "-c", patch, f"--output_dir={tmp_path / 'run'}", *flags],
        capture_output=True, text=True, cwd=SCRIPT.parents[1],
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    said = " ".join(done.stderr.split())
    assert re.search(r"1 of \d+ trainable tensors have not moved, classifier.weight", said), said


def test_a_method_that_cannot_be_made_from_a_checkpoint_is_refused(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    chosen = {**settings, "method": "prompt_tuning", "num_virtual_tokens": 4}
    code, said = outcome(start(tmp_path / "run", 2, executable=python(), **chosen))
    assert code == 2 and said.count("error:") == 1 and "Traceback" not in said, said
    assert "prompt_tuning as it is set here cannot be made from a ZeRO checkpoint" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('{"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": 7}',
         "says otherwise than the job (train_micro_batch_size_per_gpu=7 vs hf"),
        ('{"zero_optimization": {"stage": 0}}', "zero_optimization.stage is 0"),
    ],
)  # fmt: skip
def test_what_two_processes_refuse_is_said_once(
    config: str, says: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    given = tmp_path / "ds.json"
    given.write_text(config)
    process = start(
        tmp_path / "run", 2, executable=python(), **settings, method="full", deepspeed=given
    )
    code, said = outcome(process)
    assert code == 2, said
    assert said.count("error:") == 1 and "Traceback" not in said
    assert says in said
    assert not (tmp_path / "run").exists()


def test_a_configuration_of_ones_own_is_taken(settings: dict[str, Any], tmp_path: Path) -> None:
    given = tmp_path / "ds.json"
    given.write_text('{"zero_optimization": {"stage": 1}, "zero_force_ds_cpu_optimizer": false}')
    said = train(
        tmp_path / "run", 1, **{**settings, "num_train_epochs": 1, "method": "full",
                                "deepspeed": given},
    )  # fmt: skip
    assert "ZeRO stage 1, 1 process" in said
