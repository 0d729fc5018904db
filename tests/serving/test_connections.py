"""Clients that send too slowly, too much, or nothing: closed, while everybody else is answered."""

import asyncio
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import pytest
from tests.commands_for_tests import assert_refused, script
from tests.serving.conftest import Server, serving, until

from textassay.serving.app import build_app
from textassay.serving.connections import PIPELINE, Config, Connections
from textassay.serving.server import _Server, bind

# Far more than any limit of the server below, so that a slow machine fails no test.
PATIENCE = 25
BODY = json.dumps({"inputs": "a good film"}).encode()
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ASK = POST + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
PROBE = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
CONNECTIONS = 12
LIMITS = ("--head_timeout", 1, "--timeout", 2, "--idle_timeout", 2, "--max_body_bytes", 100_000,
          "--max_connections", CONNECTIONS)  # fmt: skip


@pytest.fixture(scope="module")
def server(artifact, tmp_path_factory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("connections"), *LIMITS, artifact) as running:
        yield running


def connect(server: Server) -> socket.socket:
    where = urlsplit(server.url)
    return socket.create_connection((where.hostname, where.port), timeout=PATIENCE)


def said_until_closed(line: socket.socket, drip: bytes = b"") -> bytes:
    """What the server says before it closes, while `drip` is sent again and again."""
    said = b""
    last_moment = time.monotonic() + PATIENCE
    line.settimeout(0.2)
    while time.monotonic() < last_moment:
        with suppress(TimeoutError):
            try:
                if drip:
                    line.sendall(drip)
                got = line.recv(65_536)
            except (ConnectionResetError, BrokenPipeError):
                return said
            if not got:
                return said
            said += got
    raise AssertionError(f"open after {PATIENCE} seconds; it said {said[:200]!r}")


def flood(line: socket.socket, piece: bytes, most: int = 60_000_000) -> bytes:
    """Send `piece` again and again until the server closes; what it said."""
    sent = 0
    with suppress(ConnectionResetError, BrokenPipeError):
        while sent < most:
            line.sendall(piece)
            sent += len(piece)
    assert sent < most, f"{sent} bytes were taken"
    return said_until_closed(line)


def answer(line: socket.socket) -> bytes:
    """One answer, to its end."""
    said = b""
    while b"\r\n\r\n" not in said or not said.endswith((b"}", b"]")):
        got = line.recv(65_536)
        assert got, f"closed; it said {said!r}"
        said += got
    return said


def is_well(server: Server) -> bool:
    return server.ask("/health")[0] == 200 and server.ask("/predict", BODY)[0] == 200


def test_a_silent_connection_is_closed_without_a_word(server) -> None:
    with connect(server) as line:
        assert said_until_closed(line) == b""


SLOW = {
    "a head": (PROBE[:-2] + b"X: ", b"a", b"408"),
    "a request line": (b"GET /", b"a", b"408"),
    "blank lines": (b"\r\n", b"\r\n", b"408"),
    "blank lines after an answer": (PROBE, b"\r\n", b"200"),
    "a body": (POST + b"Content-Length: 9999\r\n\r\n{", b" ", b"408"),
    "a body in chunks": (CHUNKED, b"1\r\n \r\n", b"408"),
    "a body that is not read": (
        POST.replace(b"predict", b"health") + b"Content-Length: 9999\r\n\r\n", b" ", b"405"
    ),
    "the name of a chunk": (CHUNKED + b"5;a=", b"a", b"408"),
    "what follows a body": (CHUNKED + b"0\r\nX: ", b"a", b"408"),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOW)
def test_what_drips_is_not_waited_for(server, name) -> None:
    begin, drip, status = SLOW[name]
    with connect(server) as line:
        line.sendall(begin)
        assert said_until_closed(line, drip).startswith(b"HTTP/1.1 " + status)
    assert is_well(server)


MANY = b"".join(b"x-%d: y\r\n" % number for number in range(5_000))
LARGE = {
    "many headers": (PROBE[:-2], MANY, b"431"),
    "a long header": (PROBE[:-2] + b"X: ", b"a" * 60_000, b"431"),
    "a long request line": (b"GET /", b"a" * 60_000, b"431"),
    "a long name of a chunk": (CHUNKED + b"5;a=", b"a" * 60_000, b"400"),
    "many trailers": (CHUNKED + b"0\r\n", MANY, b"400"),
    "a long trailer": (CHUNKED + b"0\r\nX: ", b"a" * 60_000, b"400"),
    "chunks without end": (CHUNKED, b"f000\r\n" + b" " * 0xF000 + b"\r\n", b"413"),
    "chunks of nothing": (CHUNKED, b"1;" + b"a" * 1_000 + b"\r\n \r\n", b"400"),
    "another protocol": (PROBE[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                         b"\x00" * 60_000, b"200"),
    "a tunnel": (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 60_000, b""),
    "no HTTP": (b"\x16\x03\x01" + b"\x00" * 500, b"\x00" * 60_000, b"400"),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_what_has_no_end_is_cut_off(server, name) -> None:
    begin, piece, status = LARGE[name]
    with connect(server) as line:
        line.sendall(begin)
        said = flood(line, piece)
        # Nothing arrives where the client still sends as the server closes.
        assert not said or said.startswith(b"HTTP/1.1 " + status)
    assert is_well(server)


def test_a_head_that_is_too_large_is_said_to_be(server) -> None:
    with connect(server) as line:
        line.sendall(PROBE[:-2] + MANY + MANY + b"\r\n")
        head, _, content = said_until_closed(line).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large")
    assert json.loads(content) == {
        "error": "the head has more than 65536 bytes", "error_type": "validation",
    }  # fmt: skip
    with connect(server) as line:
        line.sendall(PROBE[:-2] + b"x-a-header: a value\r\n" * 2_000 + b"\r\n")
        assert answer(line).startswith(b"HTTP/1.1 200")


def test_a_body_in_chunks_of_a_byte_is_read(server) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in b" " * 20_000 + BODY)
    with connect(server) as line:
        line.sendall(CHUNKED + chunks + b"0\r\n\r\n")
        assert answer(line).startswith(b"HTTP/1.1 200")


def test_some_requests_may_be_sent_ahead_and_many_may_not(server) -> None:
    with connect(server) as line:
        line.sendall(ASK * PIPELINE + PROBE.replace(b"Host", b"Connection: close\r\nHost"))
        assert said_until_closed(line).count(b"HTTP/1.1 200") == PIPELINE + 1
    with connect(server) as line:
        assert flood(line, ASK * 1_000).count(b"HTTP/1.1 200") <= 1
    assert is_well(server)


def test_an_idle_connection_is_kept_for_a_while(server) -> None:
    with connect(server) as line:
        for _ in range(3):
            line.sendall(PROBE)
            assert answer(line).startswith(b"HTTP/1.1 200")
            time.sleep(0.3)
        assert said_until_closed(line) == b""


@pytest.mark.parametrize("begin", [b"", PROBE, PROBE[:20], POST + b"Content-Length: 99\r\n\r\n{"],
                         ids=["silent", "idle", "head", "body"])  # fmt: skip
def test_who_keeps_the_server_waiting_makes_room_for_others(server, begin) -> None:
    """More connections than the server takes, none of which asks for anything."""
    with ExitStack() as stack:
        for _ in range(5 * CONNECTIONS):
            stack.enter_context(connect(server)).sendall(begin)
        assert is_well(server)
    closed = 'textassay_connections_closed_total{reason="too_many"}'
    assert closed in server.ask("/metrics")[1]


@contextmanager
def serving_here(service) -> Iterator[socket.socket]:
    """A server in a thread of this process, whose service can be held; its socket."""
    taken = bind("127.0.0.1", 0)
    connections = Connections(service.settings.limits, service.metrics)
    config = Config(build_app(service), connections, log_config=None, lifespan="off", ws="none")
    ready = threading.Event()
    ends = threading.Event()
    server = _Server(config, service, connections, lambda _: ready.set(), ends.is_set)
    thread = threading.Thread(target=lambda: asyncio.run(server._serve([taken])))
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield taken
    finally:
        ends.set()
        thread.join(PATIENCE)


def hold(service) -> Callable[[], None]:
    """Let the model wait; call what is returned to let it go on."""
    predictor, may_go = service.models["reviews"].classifier._predictor, threading.Event()
    ids = predictor.ids
    predictor.ids = lambda texts: may_go.wait(PATIENCE) and ids(texts)
    return may_go.set


def test_a_probe_is_answered_where_all_connections_are_busy(local) -> None:
    service = local(limits={"connections": 3}).service
    go_on = hold(service)
    with serving_here(service) as taken, ExitStack() as stack:

        def ask(request: bytes) -> socket.socket:
            line = stack.enter_context(socket.create_connection(taken.getsockname(), PATIENCE))
            line.sendall(request)
            return line

        busy = [ask(ASK) for _ in range(3)]
        until(lambda: service.in_flight == 3, "them to be busy")
        assert answer(ask(PROBE)).startswith(b"HTTP/1.1 200")
        assert answer(ask(PROBE.replace(b"health", b"ready"))).startswith(b"HTTP/1.1 200")
        refused = said_until_closed(ask(ASK))
        assert refused.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in refused
        assert b"as many connections are open as the server takes" in refused
        go_on()
        assert all(answer(line).startswith(b"HTTP/1.1 200") for line in busy)
        assert answer(ask(ASK)).startswith(b"HTTP/1.1 200")


def test_an_answer_that_nobody_reads_is_thrown_away(local) -> None:
    """It is larger than what the system keeps for a connection, so the server has to wait."""
    service = local(limits={"items": 100_000, "queue": 100_000, "seconds": 2}).service
    body = json.dumps({"inputs": ["a"] * 100_000}).encode()
    with serving_here(service) as taken:
        with socket.create_connection(taken.getsockname(), PATIENCE) as line:
            line.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            closed = service.metrics.closed_connections.labels("unread")._value
            until(lambda: closed.get() == 1, "it to be closed", PATIENCE)
        until(lambda: service.in_flight == 0, "it to be forgotten")


def test_bodies_in_memory_are_bounded_together(local) -> None:
    server = local(limits={"body_bytes": 1_000})
    go_on = hold(server.service)

    async def run():
        asked = [
            asyncio.create_task(server.client.post("/predict", json={"inputs": f"{n}" + "a" * 900}))
            for n in range(40)
        ]
        await asyncio.sleep(0.2)
        refused = [one.result() for one in asked if one.done()]
        go_on()
        found = [await one for one in asked]
        after = await server.client.post("/predict", json={"inputs": "after"})
        return refused, found, after

    refused, found, after = asyncio.run(run())
    assert 0 < len(refused) < 10
    assert {one.status_code for one in refused} == {429}
    assert "bytes of requests are in memory" in refused[0].json()["error"]
    assert [one.status_code for one in found].count(200) == 40 - len(refused)
    assert after.status_code == 200 and server.service._held_bytes == 0


def test_more_connections_than_files_are_refused(artifact, monkeypatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    refused = script("serve")(artifact, "--port", 0, "--max_connections", 5000)
    assert_refused(refused, 2, "need 5,232 open files", "this process may have 4,096", "ulimit -n")


@pytest.mark.slow
def test_every_worker_has_these_limits(artifact, tmp_path) -> None:
    with serving(tmp_path, "--workers", 2, *LIMITS, artifact) as server, ExitStack() as stack:
        lines = [stack.enter_context(connect(server)) for _ in range(6 * CONNECTIONS)]
        assert all(is_well(server) for _ in range(5))
        assert all(said_until_closed(line) == b"" for line in lines)
        with connect(server) as line:
            line.sendall(PROBE[:-2])
            assert said_until_closed(line, b"x: y\r\n").startswith(b"HTTP/1.1 408")
        assert server.stop() == 0
