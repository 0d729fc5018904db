"""Which runs a step carries out, with which commands, and what comes of them."""

import sys
from pathlib import Path

import pytest

from textassay.cluster import evaluate
from textassay.cluster.place import Place
from textassay.cluster.summary import array_before, why
from textassay.cluster.train import again, command_of, only_job, part_of
from textassay.config.load import resolve_job
from textassay.config.runs import CONFIG, PROVENANCE, Run, preparing, runs_of
from textassay.errors import UsageError
from textassay.files import write_json

STEP = {
    "SLURM_JOB_ID": "12345", "SLURM_STEP_NUM_NODES": "2", "SLURM_NODEID": "1",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}  # fmt: skip


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


def test_the_nodes_agree_where_a_run_meets_and_no_other_meets_there() -> None:
    others = [place(SLURM_JOB_ID="12346"), place(SLURM_RESTART_COUNT="1"), place()]
    meetings = [one.meeting_of(42) for one in others] + [place().meeting_of(7)]
    assert place(SLURM_NODEID="0").meeting_of(42) == meetings[2]
    ports = {place().port_of(meeting) for meeting in meetings}
    ports.add(place(TEXTASSAY_PORT_SECRET="drawn at random").port_of(meetings[0]))
    assert len(ports) == len(meetings) + 1 and all(20_000 <= port < 30_000 for port in ports)


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
        sys.executable, "-P", "-m", "textassay.commands.train_lora", "mine.yaml", "--seed=42",
        "--output_dir=out/adhoc/seed-42", "--bf16=true",
    ]  # fmt: skip


@pytest.mark.parametrize(("told", "count"), [({}, "auto"), ({"nproc_per_node": "4"}, "4")])
def test_deepspeed_is_several_processes_a_node(told, count) -> None:
    of_job = runs("deepspeed", **{f"resources.{key}": value for key, value in told.items()})
    command = command_of(None, of_job[0], [], place())
    assert command[1:8] == [
        "-P", "-m", "textassay.cluster.processes", "0", count, "-m",
        "textassay.commands.train_deepspeed",
    ]  # fmt: skip


AGAIN = place(SLURM_RESTART_COUNT="1")


def begin(run: Run, slurm_job: int) -> None:
    """What a part of a Slurm job leaves once it has begun a run."""
    with preparing(run):
        assert (run.path / CONFIG).is_file()
        write_json(run.path / PROVENANCE, {"slurm_job": str(slurm_job)})


def test_a_run_that_the_job_had_begun_goes_on_where_it_was(tmp_path) -> None:
    """Whatever it was told for its first time: to begin anew it was told once."""
    told = ["--resume_from_checkpoint=none", "--bf16=true"]
    (run,) = runs(folder=tmp_path, seeds="0")
    assert told[0] in command_of(None, run, told, AGAIN)  # it has still to be obeyed
    begin(run, slurm_job=12345)
    assert told[0] in command_of(None, run, told, place())
    later = command_of(None, run, told, AGAIN)
    assert told[0] not in later and told[1] in later


def test_force_is_obeyed_once(tmp_path) -> None:
    (forced,) = runs(force=True, folder=tmp_path, seeds="0")
    assert again(forced, place()).force and again(forced, AGAIN).force
    begin(forced, slurm_job=99)
    assert again(forced, AGAIN).force  # what another job has left is what was to be replaced
    begin(forced, slurm_job=12345)
    assert again(forced, place()).force and not again(forced, AGAIN).force
    assert not again(forced, AGAIN).is_done()
    forced.finish({})
    assert again(forced, AGAIN).is_done() and not again(forced, place()).is_done()
    assert part_of([(None, [forced])], AGAIN) == (None, [again(forced, AGAIN)])
    other = Run(forced.job.model_copy(update={"launcher": "full"}), 0, forced.path, force=True)
    assert again(other, AGAIN).force


def test_an_evaluation_that_was_queued_again_leaves_alone_what_it_has_evaluated() -> None:
    words = ["runs/a", "runs/b", "--device=cpu"]
    first = [sys.executable, "-P", "-m", "textassay.commands.evaluate", *words]
    assert evaluate.command_of(words, place()) == first
    assert evaluate.command_of(words, AGAIN) == [*first, "--skip_existing"]


def test_a_slurm_job_carries_out_one_job_file() -> None:
    jobs = [(Path("a.yaml"), runs()), (Path("b.yaml"), runs())]
    assert only_job(jobs[:1]) == jobs[0]
    with pytest.raises(UsageError, match="one job file"):
        only_job(jobs)


def test_the_summary_finds_the_error_of_an_element(tmp_path) -> None:
    assert why(tmp_path, "*", 1) == f"it has not begun, there is no {tmp_path}/slurm-*_1.out"
    for name, text in {"slurm-3_1.out": "fine\n", "slurm-3_11.out": "error: another's\n"}.items():
        (tmp_path / name).write_text(text)
    assert why(tmp_path, "*", 1) == f"see {tmp_path}/slurm-3_1.out"
    (tmp_path / "slurm-4_1.out").write_text("error: first\nnote\nerror: last.\nsrun: more\n")
    assert why(tmp_path, "*", 1) == f"error: last. In {tmp_path}/slurm-4_1.out"
    assert why(tmp_path, "3", 1) == f"see {tmp_path}/slurm-3_1.out"


def test_the_summary_tells_of_the_last_attempt(tmp_path) -> None:
    """What ended an attempt that came back is no reason."""
    log = tmp_path / "slurm-3_0.out"
    stopped = "error: stopped by SIGUSR1 at step 3.\nback into the queue; it goes on\n"
    killed = (
        "slurmstepd: error: Detected 1 oom_kill event\nsrun: error: n1: task 0: Out Of Memory\n"
    )
    log.write_text(stopped + killed)
    assert why(tmp_path, "3", 0) == f"{killed.splitlines()[0]} In {log}"
    log.write_text(stopped)
    assert why(tmp_path, "3", 0) == f"see {log}"


@pytest.mark.parametrize(
    ("dependency", "array"), [("afterany:8", "8"), ("afterok:8:9", "*"), ("afterany:8:9", "*")]
)
def test_the_summary_reads_the_logs_of_the_array_that_it_waited_for(dependency, array) -> None:
    assert array_before({"SLURM_JOB_DEPENDENCY": dependency}) == array
    assert array_before({}) == "*"


def test_resources_do_not_make_another_run_of_it() -> None:
    """So runs from before a setting of Slurm was known are still the same."""
    plain, asked = runs()[0], runs(**{"resources.nodes": "1", "resources.time": "30"})[0]
    assert plain.fingerprint({}) == asked.fingerprint({})
