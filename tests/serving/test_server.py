"""The real command in a process of its own: start, signals, files that change, workers."""

import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import httpx
import pytest
from tests.commands_for_tests import assert_refused, paragraph, script
from tests.serving.conftest import serving, until
from tests.serving.tiny_onnx import tiny_onnx

BODY = {"inputs": "a good film"}


def test_it_finishes_what_it_took_and_ends_with_0(artifact, tmp_path) -> None:
    """A request whose body is still on its way when the signal comes is answered."""
    with serving(tmp_path, artifact) as server:
        assert server.ask("/predict", BODY)[0] == 200
        assert server.ask("/predict", {"inputs": "a " * 2_500_000})[0] == 413
        host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
        content = json.dumps(BODY).encode()
        with socket.create_connection((host, port), timeout=20) as line:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
            line.sendall(head.encode() + content[:5])
            until(lambda: in_flight(server) == 2, "the request to be taken")
            server.process.send_signal(signal.SIGTERM)
            until(lambda: server.ask("/ready")[0] == 503, "readiness to go")
            assert server.ask("/predict", BODY)[0] == 503
            assert server.process.poll() is None
            line.sendall(content[5:])
            assert line.recv(4096).startswith(b"HTTP/1.1 200")
        assert server.process.wait(timeout=20) == 0
        with pytest.raises(URLError):
            server.ask("/health")
        assert server.log()[-1]["event"] == "stopped"


def test_a_request_that_never_comes_to_its_end_does_not_hold_it_up(artifact, tmp_path) -> None:
    with serving(tmp_path, "--shutdown_timeout", 0.2, artifact) as server:
        where = urlsplit(server.url)
        with socket.create_connection((where.hostname, where.port), timeout=20) as line:
            line.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            until(lambda: in_flight(server) == 2, "the request to be taken")
            assert server.stop() == 0
            assert line.recv(4096).startswith(b"HTTP/1.1 503")
        events = [entry["event"] for entry in server.log()]
        assert events[-1] == "stopped" and "gave_up" in events


def in_flight(server) -> float:
    lines = server.ask("/metrics")[1].splitlines()
    return float(next(x for x in lines if x.startswith("textassay_requests_in_flight ")).split()[1])


def test_a_directory_that_changes_under_it_changes_no_answer(tmp_path) -> None:
    folder = tiny_onnx(tmp_path / "reviews")
    with serving(tmp_path, "--cache_size", 0, folder) as server:
        before = server.ask("/predict", BODY)
        assert server.ask("/ready") == (
            200, {"ready": True, "models": ["reviews"], "changed_files": {}},
        )  # fmt: skip
        tiny_onnx(folder, seed=1)  # into the same files
        assert server.ask("/predict", BODY) == before
        os.truncate(folder / "model.onnx", 100)
        (folder / "tokenizer.json").unlink()
        (folder / "added.txt").write_text("x")
        assert server.ask("/predict", BODY) == before
        status, ready = server.ask("/ready")
        assert (status, ready["ready"]) == (200, True)
        named = ready["changed_files"]["reviews"]
        assert set(named) >= {"added.txt", "model.onnx", "tokenizer.json"}
        assert server.ask("/info")[1]["models"][0]["changed_files"] == named
        shutil.rmtree(folder)
        assert server.ask("/predict", BODY) == before


def test_a_port_that_is_taken_is_said(artifact) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = script("serve")(artifact, "--port", port)
    assert_refused(refused, 1, f"port {port} on 127.0.0.1 is taken", "name another --port")


def test_a_host_that_is_none_is_said(artifact) -> None:
    refused = script("serve")(artifact, "--port", 0, "--host", "nowhere.invalid")
    assert_refused(refused, 2, "--host nowhere.invalid: is no address")


@pytest.mark.parametrize("bytes_left", [0, 100, -1])
def test_a_model_file_that_is_cut_off_never_listens(tmp_path, bytes_left) -> None:
    folder = tiny_onnx(tmp_path / "reviews")
    file = folder / "model.onnx"
    os.truncate(file, bytes_left if bytes_left >= 0 else file.stat().st_size - 10)
    refused = script("serve")(folder, "--port", 0)
    assert refused.exit_code == 3
    message = refused.stderr.partition("error: ")[2]
    assert "model.onnx" in paragraph(f"error: {message}")
    assert refused.stdout == ""


def test_what_cannot_be_served_is_said_before_a_port_is_taken(artifact, tmp_path) -> None:
    serve = script("serve")
    assert_refused(serve(tmp_path / "missing"), 2, "missing", "no such directory")
    assert_refused(serve(f"a b={artifact}"), 2, "'a b' is no name for a model")
    assert_refused(serve(f"x={artifact}", f"x={artifact}"), 2, "two models would be called 'x'")
    assert_refused(serve(artifact, "--max_items", 10, "--max_queue", 5), 2, "--max_items 10")
    (tmp_path / "token").write_text("two words\n")
    refused = serve(artifact, "--token_file", tmp_path / "token")
    assert_refused(refused, 2, "must hold one token")


def test_a_library_that_is_missing_is_named(artifact, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.startswith("textassay.serving.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    refused = script("serve")(artifact, "--port", 0)
    assert_refused(refused, 2, "serving needs uvicorn", "pip install")


def test_the_hubs_own_client_and_a_balancer_that_asks_by_head_are_answered(
    artifact, tmp_path, monkeypatch
) -> None:
    from huggingface_hub import InferenceClient

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving(tmp_path, artifact) as server:
        _, wanted = server.ask("/predict", {"inputs": "a good film"})
        for url in (server.url, f"{server.url}/predict"):
            found = InferenceClient(model=url, token="none").text_classification("a good film")
            assert [(one.label, one.score) for one in found] == [
                (one["label"], one["score"]) for one in wanted
            ]
            (best,) = InferenceClient(model=url, token="none").text_classification(
                "a good film", top_k=1, function_to_apply="none"
            )
            assert best.label == wanted[0]["label"] and best.score != wanted[0]["score"]
        status, answer = server.ask("/predict", {"inputs": "a", "truncation_direction": "right"})
        assert status == 200 and len(answer) == 3
        status, said = server.ask("/predict", {"inputs": "a", "truncation_direction": "left"})
        assert status == 422 and "truncation_direction" in said["error"]
        for path in ("/health", "/ready"):
            head = httpx.head(server.url + path)
            assert (head.status_code, head.content) == (200, b"")


def test_the_token_comes_from_its_file(artifact, tmp_path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    with serving(tmp_path, "--token_file", tmp_path / "token", artifact) as server:
        assert server.ask("/predict", BODY)[0] == 401
        assert server.ask("/predict", BODY, Authorization="Bearer s3cret")[0] == 200
        assert server.ask("/ready")[0] == 200
        assert server.stop(signal.SIGINT) == 0
    assert "s3cret" not in server.log_file.read_text()


@pytest.mark.slow
def test_several_workers_count_together_and_are_replaced_and_end_together(
    artifact, tmp_path
) -> None:
    with serving(tmp_path, "--workers", 2, artifact) as server:
        for _ in range(40):  # each on a connection of its own
            assert server.ask("/predict", BODY)[0] == 200
        count = 'textassay_requests_total{endpoint="/predict",status="200"} '
        until(lambda: f"{count}40.0" in server.ask("/metrics")[1].splitlines(), "all to be counted")
        first, second = children(server.process.pid)
        os.kill(first, signal.SIGKILL)
        until(lambda: any(x["event"] == "worker_died" for x in server.log()), "it to be seen")
        until(lambda: [x["event"] for x in server.log()].count("started") == 3, "another one")
        assert second in children(server.process.pid)
        assert all(server.ask("/predict", BODY)[0] == 200 for _ in range(10))
        workers = children(server.process.pid)
        assert server.stop() == 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "them to end")
    assert [x["event"] for x in server.log()].count("stopped") == 2


def children(pid: int) -> list[int]:
    """The workers among the child processes: one more watches what they share."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in listed}
    return [int(child) for child, command in commands.items() if b"spawn_main" in command]


@pytest.mark.slow
def test_workers_end_when_the_first_process_is_killed(artifact, tmp_path) -> None:
    with serving(tmp_path, "--workers", 2, artifact) as server:
        workers = children(server.process.pid)
        assert len(workers) == 2
        server.process.kill()
        server.process.wait()
        until(lambda: not any(map(running, workers)), "the workers to see it")


def running(pid: int) -> bool:
    """Whether a process does anything but wait to be forgotten."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_a_broken_model_is_said_once_by_several_workers(tmp_path) -> None:
    folder = tiny_onnx(tmp_path / "reviews")
    os.truncate(folder / "model.onnx", 100)
    began = time.monotonic()
    with pytest.raises(AssertionError) as failure, serving(tmp_path, "--workers", 2, folder):
        pass
    assert str(failure.value).startswith("exit code 3:")
    assert str(failure.value).count("error: ") == 1
    assert time.monotonic() - began < 30
