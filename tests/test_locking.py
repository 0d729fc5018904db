"""One process at a time, whichever machine it is on; a lock whose holder is gone stops nobody."""

import json
import os
import subprocess
import sys
import time

import pytest

from textassay import locking
from textassay.errors import TextassayError, UsageError
from textassay.locking import LOCK, locked, refuse_if_locked, refuse_if_lost

HOLD = (
    "import sys, time; from pathlib import Path; from textassay.locking import locked\n"
    "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def write_lock(folder, seconds_ago=0.0, **facts):
    """The lock of a process that is not here."""
    content = {"pid": 1, "started": "1", "host": "elsewhere", "boot": "", "pid_namespace": ""}
    path = folder / LOCK
    path.write_text(json.dumps(content | facts))
    os.utime(path, times=(time.time() - seconds_ago,) * 2)


def test_the_second_process_is_refused_and_told_whose_it_is(holder, tmp_path):
    for attempt in (lambda: refuse_if_locked(tmp_path), lambda: locked(tmp_path).__enter__()):
        with pytest.raises(UsageError, match=f"is in use by process {holder.pid} on "):
            attempt()


def test_a_lock_goes_with_its_holder_however_that_ended(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK).exists()
    refuse_if_locked(tmp_path)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
        refuse_if_locked(tmp_path)
        with locked(tmp_path):  # the same process
            pass
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


def test_without_the_kernels_lock_the_file_tells(holder, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(locking.fcntl, "flock", refuse)
    with pytest.raises(UsageError, match="is in use by process"):
        locked(tmp_path).__enter__()
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        pass


def test_on_another_machine_a_holder_lives_as_long_as_it_touches_its_lock(tmp_path):
    write_lock(tmp_path, seconds_ago=30)
    with pytest.raises(UsageError, match=r"on elsewhere .* works in (8[5-9]|90) s"):
        locked(tmp_path).__enter__()
    write_lock(tmp_path, seconds_ago=locking.SECONDS_UNTIL_STALE + 30)
    with locked(tmp_path):
        pass


def test_a_process_id_that_is_used_again_is_not_taken_for_the_holder(tmp_path):
    write_lock(tmp_path, **locking._place(), pid=os.getpid(), started="1")
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(("job", "restarts", "is_free"), [("7/", 1, True), ("7/", 0, False),
                                                           ("8/", 1, False)])  # fmt: skip
def test_a_slurm_job_that_was_queued_again_takes_over_its_own_lock(
    job, restarts, is_free, tmp_path, monkeypatch
):
    write_lock(tmp_path, slurm_job=job, slurm_restarts=0)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    if is_free:
        locked(tmp_path).__enter__()
    else:
        with pytest.raises(UsageError, match="is in use"):
            locked(tmp_path).__enter__()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 3}'])
def test_a_lock_that_says_nothing_stops_nobody(content, tmp_path):
    (tmp_path / LOCK).write_text(content)
    refuse_if_locked(tmp_path)
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("how", ["replaced", "written over"])
def test_who_stood_still_and_lost_the_lock_writes_no_more(how, tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "SECONDS_BETWEEN_TOUCHES", 0.01)
    with locked(tmp_path):
        refuse_if_lost()
        if how == "replaced":
            (tmp_path / LOCK).unlink()
        write_lock(tmp_path)
        last_moment = time.monotonic() + 5
        while not locking._lost and time.monotonic() < last_moment:
            time.sleep(0.01)
        with pytest.raises(TextassayError, match="was taken over"):
            refuse_if_lost()
    assert (tmp_path / LOCK).exists(), "it is the other one's"
    refuse_if_lost()


def test_a_holder_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "SECONDS_BETWEEN_TOUCHES", 0.01)
    with locked(tmp_path):
        os.utime(tmp_path / LOCK, times=(0, 0))
        last_moment = time.monotonic() + 5
        while (tmp_path / LOCK).stat().st_mtime == 0 and time.monotonic() < last_moment:
            time.sleep(0.01)
        assert (tmp_path / LOCK).stat().st_mtime > 0
