"""Processes that are started together: what is said when the other nodes do not come."""

import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from textassay.errors import TextassayError
from textassay.training import launch
from textassay.training.launch import Meeting, start_processes


@pytest.mark.parametrize("node", [0, 1])
def test_a_node_that_meets_nobody_says_where_it_waited(node, monkeypatch) -> None:
    monkeypatch.setattr(launch, "SECONDS_TO_MEET", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = Meeting(2, node, "127.0.0.1", port, "7-0-42")
    said = rf"node {node + 1} of 2 did not find the others at 127\.0\.0\.1:{port} \(.*\)\. What"
    with pytest.raises(TextassayError, match=said):
        start_processes(1, [sys.executable, "-c", "print('never')"], meeting)


def test_nothing_is_left_where_temporary_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    noted = "import os, pathlib; pathlib.Path(os.environ['TORCHELASTIC_ERROR_FILE']).parent.stat()"
    assert start_processes(2, [sys.executable, "-c", noted]) == 0
    assert start_processes(2, [sys.executable, "-c", "raise SystemExit(65)"]) == 65
    assert [path.name for path in tmp_path.rglob("*")] == [f"textassay-{os.getuid()}"]
