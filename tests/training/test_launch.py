"""Processes that are started together: what is said when the other nodes do not come."""

import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from textassay.errors import TextassayError
from textassay.files import read_json
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


# What a started process does: it notes what listens in the whole tree, and who may open the store.
LISTENING = """
import json, os, pathlib, psutil, stat, sys, time
import torch.distributed as dist
from textassay.training.ranks import init_process_group, path_from_main
init_process_group("gloo", 60)
dist.barrier()
rank = dist.get_rank()
found = path_from_main(lambda: pathlib.Path(sys.argv[1]) / "é" if rank == 0 else 1 / 0)
nothing = path_from_main(lambda: None)
parent = psutil.Process(os.getppid())
listening = [c.laddr.ip for one in (parent, *parent.children(recursive=True))
             for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN]
store = pathlib.Path(os.environ["TEXTASSAY_RANKS_STORE"])
mode = stat.S_IMODE(store.parent.stat().st_mode)
told = {"found": str(found), "nothing": nothing, "listening": listening, "mode": mode}
pathlib.Path(sys.argv[1], f"rank-{rank}.json").write_text(json.dumps(told))
dist.barrier()
dist.destroy_process_group()
"""


def test_processes_of_one_machine_open_no_port_to_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch unpickles what lies in the store of a rendezvous, so nobody else may write there."""
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    before = dict(os.environ)
    assert start_processes(2, [sys.executable, "-c", LISTENING, str(tmp_path)]) == 0
    assert {name: value for name, value in os.environ.items() if name not in before} == {}
    told = [read_json(tmp_path / f"rank-{rank}.json") for rank in (0, 1)]
    assert told[0]["listening"] and {*told[0]["listening"], *told[1]["listening"]} <= {"127.0.0.1"}
    assert [one["mode"] for one in told] == [0o700, 0o700]
    assert [one["found"] for one in told] == [str(tmp_path / "é")] * 2
    assert [one["nothing"] for one in told] == [None, None]
