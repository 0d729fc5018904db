"""A process that another one started asks itself to stop when that one is gone."""

import os
import signal
import subprocess
import sys
import time

import pytest

from textassay import stopping
from textassay.stopping import STARTED_BY, asked_to_stop, heeding_signals, started_by_this

CHILD = """
import os, time
from textassay.stopping import asked_to_stop, heeding_signals
with heeding_signals():
    print(os.getpid(), flush=True)
    while not asked_to_stop(): time.sleep(0.05)
    print("saved", flush=True)
"""
PARENT = """
import sys
from textassay.stopping import run_passing_on
run_passing_on([sys.executable, "-c", sys.argv[1]])
"""


def test_a_child_saves_and_ends_when_its_parent_is_killed():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    try:
        assert parent.stdout.readline() == "saved\n"
        assert parent.stdout.read() == ""  # it has ended
    finally:
        parent.stdout.close()
        parent.wait()
        if not stopping._is_gone(child):
            os.kill(child, signal.SIGKILL)


def test_a_child_whose_parent_was_killed_before_it_looked_stops(monkeypatch):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    monkeypatch.setenv(STARTED_BY, str(gone.pid))
    with heeding_signals():
        assert asked_to_stop()


@pytest.mark.parametrize("value", ["", "1", "no number", "this one"])
def test_a_process_that_nobody_of_ours_started_goes_on(value, monkeypatch):
    monkeypatch.setattr(stopping, "SECONDS_BETWEEN_LOOKS_AT_PARENT", 0.01)
    monkeypatch.setenv(STARTED_BY, str(os.getpid()) if value == "this one" else value)
    with heeding_signals():
        assert STARTED_BY not in os.environ, "its own children were started by another"
        time.sleep(0.05)
        assert not asked_to_stop()
    assert started_by_this()[STARTED_BY] == str(os.getpid())
