"""Which runs a step carries out, with which commands, and what comes of them."""

import sys
from pathlib import Path

import pytest

from textassay.cluster.place import Place
from textassay.cluster.summary import why
from textassay.cluster.train import again, command_of, only_job
from textassay.config.load import resolve_job
from textassay.config.runs import CONFIG, Run, preparing, runs_of
from textassay.errors import UsageError
from textassay.files import project_root

STEP = {
    "SLURM_JOB_ID": "12345", "SLURM_STEP_NUM_NODES": "2", "SLURM_NODEID": "1",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}  # fmt: skip
SCRIPTS = project_root() / "scripts"


def runs(launcher="lora", force=False, folder=Path("out"), **told):
    return runs_of(
        resolve_job(None, None, {}, {"seeds": "0,42,7", **told}, launcher)[0], folder, force
    )


def place(**told) -> Place:
    return Place.in_step({**STEP, **told})


def test_a_step_knows_its_node_and_where_the_first_one_is() -> None:
    found = place()
    assert found == Place(12345, nodes=2, node=1, address="10.0.0.1", element=None, restarts=0)
    assert not found.is_first and place(SLURM_NODEID="0").is_first
    assert found.port == 22345 and place(SLURM_JOB_ID="12346").port == 22346


@pytest.mark.parametrize("name", STEP)
def test_outside_a_step_what_to_do_is_said(name) -> None:
    with pytest.raises(UsageError, match=rf"{name} is not set.*sbatch slurm/train\.sbatch"):
        Place.in_step({key: value for key, value in STEP.items() if key != name})


def test_an_element_carries_out_the_seed_that_it_counts_to() -> None:
    assert [run.seed for run in place().share_of(runs())] == [0, 42, 7]
    assert [run.seed for run in place(SLURM_ARRAY_TASK_ID="1").share_of(runs())] == [42]
    with pytest.raises(UsageError, match=r"has 3 seeds, .* element 3 .*--array=0-2"):
        place(SLURM_ARRAY_TASK_ID="3").share_of(runs())


def test_one_process_carries_out_a_run_of_its_own() -> None:
    command = command_of(Path("mine.yaml"), runs()[1], ["--bf16=true"], place())
    assert command == [
        sys.executable, f"{SCRIPTS}/train_lora.py", "mine.yaml", "--seed=42",
        "--output_dir=out/adhoc/seed-42", "--bf16=true",
    ]  # fmt: skip


@pytest.mark.parametrize(("told", "count"), [({}, "auto"), ({"nproc_per_node": "4"}, "4")])
def test_deepspeed_is_several_processes_a_node(told, count) -> None:
    of_job = runs("deepspeed", **{f"resources.{key}": value for key, value in told.items()})
    command = command_of(None, of_job[0], [], place())
    assert command[1:5] == [
        "-m", "textassay.cluster.processes", count, f"{SCRIPTS}/train_deepspeed.py",
    ]  # fmt: skip


def test_a_job_that_was_queued_again_goes_on_where_it_was() -> None:
    """Whatever it was told for its first time: to begin anew it was told once."""
    told = ["--resume_from_checkpoint=none", "--bf16=true"]
    assert told[0] in command_of(None, runs()[0], told, place())
    later = command_of(None, runs()[0], told, place(SLURM_RESTART_COUNT="1"))
    assert told[0] not in later and told[1] in later


def test_force_is_obeyed_once(tmp_path) -> None:
    (forced,) = runs(force=True, folder=tmp_path, seeds="0")
    assert again(forced, restarts=0).force and again(forced, restarts=1).force
    with preparing(forced):
        assert (forced.path / CONFIG).is_file()
    assert again(forced, restarts=0).force and not again(forced, restarts=1).force
    other = Run(forced.job.model_copy(update={"launcher": "full"}), 0, forced.path, force=True)
    assert again(other, restarts=1).force  # what is there is still what was to be replaced


def test_a_slurm_job_carries_out_one_job_file() -> None:
    jobs = [(Path("a.yaml"), runs()), (Path("b.yaml"), runs())]
    assert only_job(jobs[:1]) == jobs[0]
    with pytest.raises(UsageError, match="one job file"):
        only_job(jobs)


def test_the_summary_finds_the_error_of_an_element(tmp_path) -> None:
    assert why(tmp_path, 1) == f"no log in {tmp_path}"
    for name, text in {"slurm-3_1.out": "fine\n", "slurm-3_11.out": "error: another's\n"}.items():
        (tmp_path / name).write_text(text)
    assert why(tmp_path, 1) == f"see {tmp_path}/slurm-3_1.out"
    (tmp_path / "slurm-4_1.out").write_text("error: first\nnote\nerror: last.\nsrun: more\n")
    assert why(tmp_path, 1) == f"error: last. In {tmp_path}/slurm-4_1.out"


def test_resources_do_not_make_another_run_of_it() -> None:
    """So runs from before a setting of Slurm was known are still the same."""
    plain, asked = runs()[0], runs(**{"resources.nodes": "1", "resources.time": "30"})[0]
    assert plain.fingerprint() == asked.fingerprint()
