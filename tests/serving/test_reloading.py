"""SIGHUP changes models under a running server; workers that die come back with the same ones."""

import asyncio
import gc
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
from tests.serving.conftest import SCRIPT, serving, until
from tests.serving.test_server import children
from tests.serving.tiny_onnx import tiny_onnx

from textassay.artifacts.classifier import Classifier
from textassay.errors import GateError
from textassay.serving.models import load_models
from textassay.serving.places import find_places, version_of
from textassay.serving.reloading import Reloader, reload_when_asked

TEXT = "a good film"
BODY = {"inputs": TEXT}


def events(server, name: str) -> list[dict]:
    return [line for line in server.log() if line["event"] == name]


def scores(answer) -> dict[str, float]:
    return {row["label"]: row["score"] for row in answer}


def wanted(folder: Path) -> dict[str, float]:
    probabilities = Classifier.load(folder).predict(TEXT)["probabilities"]
    return {label: pytest.approx(value, abs=1e-6) for label, value in probabilities.items()}


def hang_up(server) -> None:
    server.process.send_signal(signal.SIGHUP)


def test_a_hangup_changes_the_model_and_ends_what_it_began_with_the_old_one(tmp_path) -> None:
    folder = tiny_onnx(tmp_path / "reviews")
    old, new = wanted(folder), wanted(tiny_onnx(tmp_path / "new", seed=1))
    with serving(tmp_path, folder) as server:
        assert scores(server.ask("/predict", BODY)[1]) == old
        tiny_onnx(folder, seed=1)
        assert scores(server.ask("/predict", BODY)[1]) == old
        assert server.ask("/ready")[1]["changed_files"] == {
            "reviews": ["config.json", "model.onnx", "tokenizer.json"]
        }
        hang_up(server)
        until(lambda: events(server, "reloaded"), "the new model")
        assert scores(server.ask("/predict", BODY)[1]) == new  # not what the cache knows
        status, ready = server.ask("/ready")
        assert (status, ready["changed_files"]) == (200, {})
        assert ready["last_reload"] == {"succeeded": True, "error": None}
        assert server.stop() == 0


@pytest.mark.parametrize("change", ["cut off", "labels without a name", "gone"])
def test_a_model_that_cannot_be_loaded_leaves_the_old_one(change, tmp_path) -> None:
    folder = tiny_onnx(tmp_path / "reviews")
    old = wanted(folder)
    with serving(tmp_path, "--cache_size", 0, folder) as server:
        if change == "cut off":
            os.truncate(folder / "model.onnx", 100)
        elif change == "gone":
            shutil.rmtree(folder)
        else:
            (folder / "config.json").write_text(json.dumps({"id2label": {"1": "a"}}))
        hang_up(server)
        until(lambda: events(server, "reload_failed"), "the refusal")
        reason = events(server, "reload_failed")[0]["error"]
        assert "reviews" in reason and "Traceback" not in reason
        status, ready = server.ask("/ready")
        assert status == 200 and ready["last_reload"] == {"succeeded": False, "error": reason}
        assert scores(server.ask("/predict", BODY)[1]) == old
        shutil.rmtree(folder, ignore_errors=True)
        new = wanted(tiny_onnx(folder, seed=1))
        hang_up(server)
        until(lambda: events(server, "reloaded"), "the new model")
        assert scores(server.ask("/predict", BODY)[1]) == new
        assert server.stop() == 0


def test_hangups_in_a_row_end_with_what_lies_there_last_and_no_request_is_lost(tmp_path) -> None:
    """Also one that comes while models are loaded, and one while the new model is broken."""
    folder = tiny_onnx(tmp_path / "reviews")
    with serving(tmp_path, "--cache_size", 0, folder) as server:
        statuses: list[int] = []
        ends = threading.Event()

        def ask() -> None:
            while not ends.is_set():
                statuses.append(server.ask("/predict", BODY)[0])

        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        for seed in (1, 2):
            if seed == 1:
                tiny_onnx(folder, 10 + seed)
            else:
                (folder / "model.onnx").write_bytes(b"broken")
            before = len(events(server, "reloading"))
            hang_up(server)
            until(lambda: len(events(server, "reloading")) > before, "a reload to begin")  # noqa: B023
            tiny_onnx(folder, seed)
            hang_up(server)
        new = wanted(folder)
        until(lambda: scores(server.ask("/predict", BODY)[1]) == new, "the last model")
        until(lambda: server.ask("/ready")[1]["last_reload"]["succeeded"], "it to be said")
        ends.set()
        for thread in asking:
            thread.join()
        assert len(statuses) > 10 and set(statuses) == {200}
        assert server.stop() == 0


def test_a_hangup_while_models_are_loaded_is_not_forgotten(local, monkeypatch) -> None:
    asked, began = threading.Event(), []

    def reload(*_: object) -> tuple:
        began.append(1)
        if len(began) == 1:
            asked.set()
        return ()

    monkeypatch.setattr("textassay.serving.reloading._reload", reload)
    service = local().service
    reloader = Reloader(service, asyncio.new_event_loop())
    asked.set()
    arguments = (asked, reloader, service)
    threading.Thread(target=reload_when_asked, args=arguments, daemon=True).start()
    until(lambda: len(began) == 2, "the second reload")


def test_requests_are_answered_by_the_model_that_they_began_with(local, tmp_path) -> None:
    """Also the one that waits for tokens, and one that asks for the next version meanwhile."""
    folder = tiny_onnx(tmp_path / "reviews")
    old = wanted(folder)
    server = local(models=(("reviews", str(folder)),))
    model = server.service.models["reviews"]
    began, go_on = threading.Event(), threading.Event()
    compute = model.batcher._compute

    def slow(texts):
        began.set()
        assert go_on.wait(20)
        return compute(texts)

    model.batcher._compute = slow
    new = wanted(tiny_onnx(folder, seed=1))

    async def run():
        reloader = Reloader(server.service, asyncio.get_running_loop())
        body = {**BODY, "truncate": False}
        first = asyncio.create_task(server.client.post("/predict", json=body))
        await asyncio.to_thread(began.wait, 20)
        await asyncio.to_thread(reloader.prepare, find_places(server.service.settings))
        await asyncio.to_thread(reloader.swap)
        second = await server.client.post("/predict", json=body)
        assert not first.done() and model.batcher.is_alive
        go_on.set()
        first_answer = (await first).json()
        third = await server.client.post("/predict", json=body)
        await asyncio.to_thread(reloader.free_memory)
        return first_answer, second.json(), third.json()

    answers = [scores(one) for one in asyncio.run(run())]
    assert answers == [old, new, new]
    assert not model.batcher.is_alive


def test_the_old_model_leaves_no_memory_behind(local, tmp_path) -> None:
    folder = tiny_onnx(tmp_path / "reviews")
    server = local(models=(("reviews", str(folder)),))
    gc.collect()
    gc.freeze()  # as at the start of a server
    old = weakref.ref(server.service.models["reviews"])
    tiny_onnx(folder, seed=1)

    async def run():
        reloader = Reloader(server.service, asyncio.get_running_loop())
        await asyncio.to_thread(reloader.prepare, find_places(server.service.settings))
        await asyncio.to_thread(reloader.swap)
        await asyncio.to_thread(reloader.free_memory)

    asyncio.run(run())
    gc.unfreeze()
    assert old() is None


def test_a_version_is_all_that_answers_depend_on(local, tmp_path) -> None:
    folder = tiny_onnx(tmp_path / "reviews")
    service = local(models=(("reviews", str(folder)),)).service
    (place,) = [model.place for model in service.models.values()]

    def load(place):
        models = load_models(service.settings, [place], service.metrics)
        models["reviews"].batcher.close()

    (folder / "README.md").write_text("a note")
    load(place)
    first = version_of(folder, Classifier.load(folder))
    assert first == place.version
    tiny_onnx(folder, seed=1)
    assert version_of(folder, Classifier.load(folder)) != first
    with pytest.raises(GateError, match="no longer the version of reviews"):
        load(place)
    tiny_onnx(folder)
    load(place)


def test_a_closed_terminal_ends_the_server(tmp_path) -> None:
    """As before: a reload is only what somebody asks for."""
    folder = tiny_onnx(tmp_path / "reviews")
    terminal, theirs = pty.openpty()
    code = (
        "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", code, str(SCRIPT), "--port", "0", str(folder)]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:  # fmt: skip
        os.close(theirs)
        assert any(line.startswith("serving") for line in process.stdout)
        process.send_signal(signal.SIGHUP)
        reloaded = (line for line in process.stderr if '"reloaded"' in line)
        assert next(reloaded)
        os.close(terminal)
        assert process.wait(timeout=20) == 0


@pytest.mark.slow
def test_workers_answer_with_one_version_whatever_lies_on_the_disk(tmp_path) -> None:
    folder = tiny_onnx(tmp_path / "reviews")
    old = wanted(folder)
    with serving(tmp_path, "--workers", 2, "--cache_size", 0, folder) as server:
        assert server.ask("/ready")[1]["workers"] == {
            "wanted": 2, "serving": 2, "why_missing": None,
        }  # fmt: skip
        new = wanted(tiny_onnx(folder, seed=1))
        first, second = children(server.process.pid)
        os.kill(first, signal.SIGKILL)
        until(lambda: events(server, "worker_not_replaced"), "the refusal")
        assert children(server.process.pid) == [second]
        assert all(scores(server.ask("/predict", BODY)[1]) == old for _ in range(5))
        status, ready = server.ask("/ready")
        assert (status, ready["ready"], ready["workers"]["serving"]) == (200, True, 1)
        assert "no longer the version of reviews" in ready["workers"]["why_missing"]
        hang_up(server)
        until(lambda: len(children(server.process.pid)) == 2, "another worker")
        until(lambda: server.ask("/ready")[1]["workers"]["serving"] == 2, "it to be known")
        assert all(scores(server.ask("/predict", BODY)[1]) == new for _ in range(20))
        shutil.rmtree(folder)
        hang_up(server)
        until(lambda: events(server, "reload_failed"), "the refusal of the second")
        assert server.ask("/ready")[1]["last_reload"]["succeeded"] is False
        assert all(scores(server.ask("/predict", BODY)[1]) == new for _ in range(20))
        for worker in children(server.process.pid):
            os.kill(worker, signal.SIGKILL)
        assert server.process.wait(timeout=20) == 2
        assert "no worker is left" in server.log_file.read_text()
