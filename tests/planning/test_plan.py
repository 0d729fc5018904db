"""scripts/plan.py as it is called: what it prints, refuses and writes."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.commands_for_tests import assert_refused, go_offline, script
from tests.models_for_tests import tiny_bert, tiny_llama

from textassay.config.load import resolve_job
from textassay.config.runs import runs_of
from textassay.errors import UsageError
from textassay.files import project_root
from textassay.planning.plan import Ask, make_plan, parse_memory
from textassay.planning.show import clock, size

JOBS = sorted((project_root() / "jobs").glob("*.yaml"))
QUICKSTART = project_root() / "jobs" / "quickstart.yaml"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go_offline(monkeypatch, tmp_path / "caches")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file whose longest text has 20 words."""
    lines = [f"{'good ' * (1 + row % 20)}film,{'yes' if row % 2 else 'no'}" for row in range(200)]
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


def plan_of(*arguments: Any) -> dict[str, Any]:
    done = script("plan")(*arguments, "--json", "-")
    assert done.exit_code == 0, done.stderr
    (found,) = json.loads(done.stdout)
    return found


def test_the_quickstart_is_planned_with_its_real_rows() -> None:
    done = script("plan")(QUICKSTART, "--memory", "4GB", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert "223,493 of 22,938,634 parameters train" in done.stdout
    assert "3 seeds" in done.stdout
    assert "rows of 79 tokens" in done.stdout
    assert "fits       4,000 MB: " in done.stdout
    assert "bash slurm/submit.sh" in done.stdout
    assert done.stderr.splitlines() == [
        "note: test: 215 rows cut off train (stratified, split seed 0)",
        "note: validation: 130 rows cut off train (stratified, split seed 0)",
    ]


@pytest.mark.parametrize("job_file", JOBS, ids=lambda path: path.stem)
def test_every_job_is_planned_or_told_what_is_missing(job_file: Path) -> None:
    job, _ = resolve_job(job_file, None, {}, {}, None)
    ask = Ask()
    if "MiniLM" in job.model.model_name_or_path:
        assert make_plan(job_file, runs_of(job, Path("runs")), [], ask).need.peak > 0
        return
    with pytest.raises(UsageError) as refused:
        make_plan(job_file, runs_of(job, Path("runs")), [], ask)
    said = str(refused.value)
    assert job.model.model_name_or_path in said and "config.json" in said
    assert "hf download" in said and "--model_name_or_path" in said


def test_a_job_is_planned_for_gpus_that_are_not_here(tmp_path: Path, rows: Path) -> None:
    base = tiny_llama(tmp_path / "llama", positions=600)
    r8 = project_root() / "jobs" / "r8_llama_deepspeed.yaml"
    found = plan_of(r8, "--model_name_or_path", base, "--gpus_per_node", 4, "--nodes", 2,
                    "--data_path", rows, "--data_name", "")  # fmt: skip
    assert found["place"] == {"device": "cuda", "precision": "bf16", "processes": 8}
    assert found["zero"]["zero_stage"] == 3
    assert found["need"]["states"] == pytest.approx(12 * found["parameters"] / 8, abs=12)
    assert "--mem=" in found["submit"] and "--gpus-per-node" not in found["submit"].split("--")[0]
    assert any("no GPU was there" in note for note in found["notes"])


def test_the_line_to_submit_carries_the_flags_and_is_one_for_a_shell(
    tmp_path: Path, rows: Path
) -> None:
    base = tiny_bert(tmp_path / "bert")
    found = plan_of(QUICKSTART, "--model_name_or_path", base, "--data_path", rows, "--data_name",
                    "", "--max_seq_length", 32, "--mem", "7G", "--device", "auto")  # fmt: skip
    words = shlex.split(found["submit"])
    assert words[:3] == ["bash", "slurm/submit.sh", str(QUICKSTART)]
    before, behind = words[3 : words.index("--")], words[words.index("--") + 1 :]
    assert before == []  # how much memory, the job says itself; no GPU is here to speak of
    assert f"--model_name_or_path={base}" in behind and "--mem=7G" in behind
    assert found["length"] in (22, 23)  # 20 or 21 words, [CLS] and [SEP]


def test_the_line_to_submit_is_of_the_very_job_that_was_planned(tmp_path: Path, rows: Path) -> None:
    zero = project_root() / "jobs" / "sst2_minilm_deepspeed.yaml"
    found = plan_of(zero, "--data_path", rows, "--data_name", "", "--seeds", "7", "--output_dir",
                    "my runs", "--prompt", "{text} It is", "--max_seq_length", 32,
                    "--device", "cpu", "--world_size", 4)  # fmt: skip
    assert found["place"]["processes"] == 4
    behind = shlex.split(found["submit"])
    behind = behind[behind.index("--") + 1 :]
    for flag in ("--seeds=7", "--output_dir=my runs", "--prompt={text} It is", "--device=cpu",
                 "--nproc_per_node=4"):  # fmt: skip
        assert flag in behind
    on_gpus = plan_of(zero, "--data_path", rows, "--data_name", "", "--gpus_per_node", 2, "--nodes",
                      2, "--max_seq_length", 32, "--world_size", 8)  # fmt: skip
    assert "--gpus-per-node=4" in shlex.split(on_gpus["submit"])


def test_what_does_not_fit_says_why(tmp_path: Path, rows: Path) -> None:
    base = tiny_bert(tmp_path / "bert")
    found = plan_of(QUICKSTART, "--model_name_or_path", base, "--data_path", rows, "--data_name",
                    "", "--max_seq_length", 32, "--memory", "100MB")  # fmt: skip
    assert found["largest_batch"] == 0
    assert any("--per_device_eval_batch_size" in note for note in found["notes"])
    assert any("--device cuda plans for one" in note for note in found["notes"])


def test_without_data_and_tokenizer_the_config_is_enough(tmp_path: Path) -> None:
    whole = tiny_bert(tmp_path / "bert")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((whole / "config.json").read_bytes())
    arguments = ["--max_seq_length", 40, "--labels"]
    job = tmp_path / "job.yaml"
    job.write_text("launcher: full\nmethod: {name: full}\ndata: {path: not/there.csv}\n")
    found = plan_of(job, *arguments, "a,b,c", "--model_name_or_path", bare)
    assert found["length"] == 40
    assert any("the data is not read" in note for note in found["notes"])
    again = plan_of(job, *arguments, "a,b,c", "--model_name_or_path", whole)
    assert again["parameters"] == found["parameters"]


def test_a_plan_counts_checkpoints_artifact_and_merged_model(tmp_path: Path, rows: Path) -> None:
    base = tiny_bert(tmp_path / "bert", width=64)
    given = [QUICKSTART, "--model_name_or_path", base, "--data_path", rows, "--data_name", "",
             "--max_seq_length", 32]  # fmt: skip
    plain = plan_of(*given)["disk"]
    more = plan_of(*given, "--save_total_limit", 5, "--save_merged")["disk"]
    assert plain["checkpoints"] == 3 * plain["checkpoint"]
    assert more["checkpoints"] == 6 * plain["checkpoint"]
    assert plain["beside"] == 0 < more["beside"]


def test_refusals() -> None:
    plan = script("plan")
    assert_refused(plan(QUICKSTART, "--memory", "lots"), 2, "--memory: 'lots' is no size")
    assert_refused(plan(QUICKSTART, "--world_size", 2), 2, "launcher lora is one process")
    zero = project_root() / "jobs" / "sst2_minilm_deepspeed.yaml"
    odd = plan(zero, "--nodes", 2, "--world_size", 3)
    assert_refused(odd, 2, "3 processes cannot be spread evenly over 2 nodes")
    assert_refused(plan("nowhere.yaml"), 2, "there is no such job file")


def test_a_trial_takes_real_steps_and_leaves_nothing(tmp_path: Path, rows: Path) -> None:
    base = tiny_bert(tmp_path / "bert")
    job = tmp_path / "job.yaml"
    job.write_text("launcher: full\nmethod: {name: full}\n")
    found = plan_of(job, "--model_name_or_path", base, "--max_seq_length", 32, "--data_path", rows,
                    "--device", "cpu", "--num_train_epochs", 9, "--batch_size", 4,
                    "--on_bad_rows", "skip", "--measure")  # fmt: skip
    trial = found["trial"]
    assert trial["steps_tried"] == 20 < trial["steps"]
    assert trial["steps"] % 9 == 0 and trial["evaluations"] == 9
    assert trial["seconds_training"] == pytest.approx(trial["steps"] * trial["seconds_a_step"])
    assert 0 < trial["seconds_a_step"] < 60 and trial["seconds_evaluating"] > 0
    assert not (tmp_path / "runs").exists()


def test_help_answers_without_torch() -> None:
    code = ("import runpy, sys\nsys.argv = ['plan.py', '--help']\n"
            f"try: runpy.run_path({str(project_root() / 'scripts' / 'plan.py')!r}, "
            "run_name='__main__')\nexcept SystemExit: print('torch' in sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "--memory" in done.stdout and "--measure" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("24GB", 24 * 10**9), ("24G", 24 * 10**9), ("1.5 GiB", 3 * 2**29), ("1000", 1000),
     ("80gb", 80 * 10**9), ("512MiB", 2**29)],
)  # fmt: skip
def test_sizes_are_read_as_they_are_written(text: str, wanted: int) -> None:
    assert parse_memory(text) == wanted


def test_sizes_and_times_are_said_as_people_say_them() -> None:
    assert [size(n) for n in (900, 10**6, 1234567890, 24 * 10**9)] == [
        "1 kB", "1 MB", "1,235 MB", "24.0 GB",
    ]  # fmt: skip
    assert [clock(s) for s in (0.4, 61, 3700)] == ["0 s", "1 min 1 s", "1 h 1 min"]
