"""What a change reaches, and how long the rest of a test session may take."""

import time
from pathlib import Path

import pytest
from tests import changed, progress

HEADS = "src/textassay/models/heads.py"


def test_a_module_reaches_the_tests_that_import_it_near_or_far() -> None:
    reached = changed.distances([HEADS])
    assert reached["tests/models/test_heads.py"] == 1
    assert reached["tests/training/test_run.py"] > 1, "training imports what imports the heads"
    assert "tests/data/test_split.py" not in reached, "data imports no models"
    assert "tests/config/test_load.py" not in reached
    assert all(Path(changed.ROOT, file).is_file() for file in reached)


def test_a_helper_of_tests_reaches_those_that_import_it() -> None:
    reached = changed.distances(["tests/doctor_cases.py"])
    assert reached == {"tests/artifacts/test_doctor.py": 1}


@pytest.mark.parametrize(
    ("file", "test"),
    [
        ("docs/deploy.md", "tests/test_deploy.py"),
        ("src/textassay/commands/serve.py", "tests/serving/test_server.py"),
        ("slurm/common.sh", "tests/slurm/test_shell.py"),
        ("tests/test_files.py", "tests/test_files.py"),
    ],
)
def test_another_file_reaches_the_tests_that_name_it(file: str, test: str) -> None:
    assert test in changed.distances([file])


def test_a_module_without_importers_is_reached_by_the_test_that_mirrors_it() -> None:
    assert changed.distances(["src/textassay/threads.py"])["tests/test_threads.py"] <= 1


def test_the_nearest_files_fill_the_time_and_the_rest_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = {"fast": {"near": 10.0, "far": 40.0, "farthest": 60.0}, "slow": {"near": 20.0,
              "far": 20.0, "hard": 300.0}}  # fmt: skip
    monkeypatch.setattr(changed, "read_record", lambda: record)
    monkeypatch.setattr(changed, "SECONDS", 100)
    chosen, slow, left_out = changed.choose({"near": 0, "hard": 1, "far": 2, "farthest": 3})
    assert chosen == ["near", "hard", "far"]
    assert slow == ["near"], "hard's slow tests take too long, far is too far away"
    assert left_out == ["farthest"]


def test_progress_scales_what_files_took_before_to_this_machine(
    monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.setattr(progress, "read_record", lambda: {"fast": {"a": 10, "b": 90}, "slow": {}})
    monkeypatch.setattr(pytestconfig.option, "markexpr", "not slow")
    counts = progress.Progress(pytestconfig)
    counts._expect(["a::one", "a::two", "b::one", "b::two[x::y]"])
    for nodeid in ("a::one", "a::two"):
        report = pytest.TestReport(nodeid, ("a", 1, ""), {}, "passed", None, "teardown",
                                   duration=1.0)  # fmt: skip
        counts.pytest_runtest_logreport(report)
    assert counts.line(20) == "progress   2 of 4 tests in 20 s; about 3 min left"
    assert time.monotonic() - counts._began < progress.SECONDS_BETWEEN_LINES


def test_the_record_names_files_that_exist() -> None:
    record = progress.read_record()
    assert record.keys() == {"fast", "slow"}
    gone = [file for part in record.values() for file in part if not (changed.ROOT / file).exists()]
    assert not gone, f"write it anew, or take them out: {gone}"
