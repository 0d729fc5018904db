"""How threads wait is settled by what else the machine does, and by the user before all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from textassay import threads
from textassay.threads import COUNT, OURS, REASON, WAITING, settle_threads

CPUS = 4


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of four CPUs, all of them ours; `loadavg` says what runs on it."""
    monkeypatch.setattr(threads, "PROC", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: CPUS)
    monkeypatch.setattr(threads, "_allowed_cpus", lambda: CPUS)
    return tmp_path


def running(machine: Path, number: int) -> None:
    (machine / "loadavg").write_text(f"3.99 2.00 1.00 {number}/321 4242\n")


def settled(**environment: str) -> dict[str, str]:
    settle_threads(environment)
    return environment


def test_alone_nothing_is_set(machine: Path) -> None:
    running(machine, 1)
    assert settled() == {}, "and the load average, which still shows the last run, is not asked"


def test_beside_a_busy_process_threads_sleep_while_they_wait(machine: Path) -> None:
    running(machine, 2)
    environment = settled()
    assert environment[WAITING] == "PASSIVE" and COUNT not in environment
    assert environment[REASON] == "sleeping while they wait, beside 1 busy process on 4 CPUs"
    running(machine, 4)
    assert "beside 3 busy processes" in settled()[REASON]


def test_beside_idle_cpus_enough_for_all_threads_nothing_is_set(machine: Path) -> None:
    running(machine, 3)
    assert settled(OMP_NUM_THREADS="2") == {COUNT: "2"}
    running(machine, 4)
    assert settled(OMP_NUM_THREADS="2")[WAITING] == "PASSIVE"
    assert WAITING not in settled(OMP_NUM_THREADS="1"), "one thread waits for nobody"


@pytest.mark.parametrize("choice", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_the_users_own_choice_is_obeyed(choice: str, machine: Path) -> None:
    running(machine, 4)
    assert settled(**{choice: "7"}) == {choice: "7"}


def test_a_process_looks_anew_unless_it_trains_with_the_one_that_started_it(machine: Path) -> None:
    running(machine, 4)
    parent = settled()
    running(machine, 1)
    assert settled(**parent) == {}
    assert settled(RANK="0", **parent) == {"RANK": "0", **parent}
    assert settled(RANK="0") == {"RANK": "0"}


@pytest.mark.parametrize("command", [
    "python /home/me/scripts/train_lora.py job.yaml", "python -P scripts/train_full.py",
    "python -P -m textassay.commands.train_deepspeed job.yaml",
    "/venv/bin/python /venv/bin/textassay train-lora job.yaml",
    "python -m textassay.commands.distill teacher",
])  # fmt: skip
def test_another_training_is_counted_though_it_reads_a_file_now(
    command: str, machine: Path
) -> None:
    running(machine, 1)
    others = ("python scripts/train_lora.pyc", "vim /home/me/train_lora.py.txt", "",
              "python /venv/bin/textassay train job.yaml", "cat a b /x/train_lora.py")  # fmt: skip
    for pid, words in enumerate((command, *others), 77):
        (machine / str(pid)).mkdir()
        (machine / str(pid) / "cmdline").write_bytes(words.replace(" ", "\0").encode() + b"\0")
    assert "beside 1 busy process " in settled()[REASON]


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"self/cgroup": "0::/"}, None),
        ({"self/cgroup": "0::/", "cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"self/cgroup": "0::/a/b", "cgroup/a/b/cpu.max": "max 100000",
          "cgroup/a/cpu.max": "300000 100000", "cgroup/cpu.max": "max 100000"}, 3),
        ({"self/cgroup": "4:memory:/x\n1:cpu,cpuacct:/x\n0::/",
          "cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "200000",
          "cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, 2),
        ({"self/cgroup": "1:cpu:/", "cgroup/cpu/cpu.cfs_quota_us": "-1",
          "cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        ({"self/cgroup": "0::/", "cgroup/cpu.max": "what?"}, None),
    ],
)  # fmt: skip
def test_the_smallest_quota_of_the_control_groups_counts(
    files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert threads._quota(tmp_path, tmp_path / "cgroup") == quota


def test_a_quota_limits_the_threads(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running(machine, 1)
    monkeypatch.setattr(threads, "_quota", lambda: 1.5)
    environment = settled()
    assert environment[COUNT] == "2" and environment[OURS] == COUNT
    assert environment[REASON] == "the control group's share of 4 CPUs"
    assert settled(OMP_NUM_THREADS="3") == {COUNT: "3"}
    assert threads.usable_cpus() == 2
    monkeypatch.setattr(threads, "_quota", lambda: 0.1)
    assert threads.usable_cpus() == 1


def test_a_quota_is_shared_by_processes_that_start_together(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(machine, 1)
    monkeypatch.setattr(threads, "_quota", lambda: 2.0)
    for given, each in (({}, "1"), ({COUNT: "3"}, "3")):
        environment = settled(**given)
        threads.share_threads(2, environment)
        assert environment[COUNT] == each


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """As many busy processes as there are CPUs."""
    spinning = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(spinning) for _ in range(os.cpu_count() or 1)]
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one CPU has one thread")
def test_on_a_busy_machine_it_is_settled_before_torch_is_loaded(busy_machine: None) -> None:
    ask = (
        "import os, sys\n"
        "from textassay.console import reports_errors\n"
        "reports_errors(lambda: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules))()"
    )
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True,
                          text=True)  # fmt: skip
    assert done.stdout == "PASSIVE False\n", done.stderr
