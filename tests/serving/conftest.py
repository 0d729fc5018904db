"""Servers in this process and in processes of their own, on tiny models."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serving.tiny_onnx import tiny_onnx

from textassay.serving.app import build_app
from textassay.serving.metrics import Metrics
from textassay.serving.models import load_models
from textassay.serving.places import find_places
from textassay.serving.service import Service
from textassay.serving.settings import Limits, Settings

SCRIPT = Path(__file__).parents[2] / "scripts" / "serve.py"
SECONDS_TO_START = 60


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX artifact, for tests that do not change it."""
    return tiny_onnx(tmp_path_factory.mktemp("onnx") / "reviews")


@dataclass
class Local:
    """A service in this process: its state, and a client that speaks ASGI to it."""

    service: Service
    client: httpx.AsyncClient


@pytest.fixture
def local(artifact: Path) -> Iterator[Callable[..., Local]]:
    """local(limits..., models=..., token=...): a service with these settings, closed afterwards."""
    made: list[Service] = []

    def make(models: tuple[tuple[str, str], ...] = (), limits: dict | None = None, **told) -> Local:
        settings = Settings(models or (("reviews", str(artifact)),), threads=1)
        settings = replace(settings, limits=Limits(**(limits or {})), **told)
        metrics = Metrics()
        service = Service(settings, load_models(settings, find_places(settings), metrics), metrics)
        made.append(service)
        # What the application raises is raised here: a 500 of the framework would hide it.
        transport = httpx.ASGITransport(build_app(service))
        return Local(service, httpx.AsyncClient(transport=transport, base_url="http://test"))

    yield make
    for service in made:
        for model in service.models.values():
            model.batcher.close()


@dataclass
class Server:
    """`scripts/serve.py` in a process of its own."""

    process: subprocess.Popen
    url: str
    log_file: Path

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and content of a GET, or of a POST where there is a body (bytes as they are)."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                status, content = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content.decode()

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log that are JSON."""
        lines = self.log_file.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@contextmanager
def serving(folder: Path, *arguments: Any, program: str = sys.executable) -> Iterator[Server]:
    """A server on a free port, ended when the block ends; `program` is the Python that runs it."""
    log_file = folder / "log.jsonl"
    command = [program, str(SCRIPT), "--port", "0", "--threads", "1", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (
        log_file.open("w") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as process,
    ):
        try:
            yield Server(process, _url(process, log_file), log_file)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()


def _url(process: subprocess.Popen, log_file: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("serving"):
            return line.split()[-1]
    raise AssertionError(f"exit code {process.wait()}: {log_file.read_text()}")


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait for something that happens in another process."""
    last_moment = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last_moment, f"waited {seconds} seconds for {what}"
        time.sleep(0.02)
