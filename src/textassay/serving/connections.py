"""Connections: how many there are, how long a client may take, how much it may send around a body.

uvicorn limits none of this where httptools reads HTTP, as it does here because it is fast: the
time for a head, its size, requests that are sent ahead of their answers, answers that nobody reads.
"""

import json
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from textassay.console import counted
from textassay.serving.metrics import Metrics
from textassay.serving.settings import Limits

# Beyond the limit, where every connection is being answered: so many more may ask for a probe.
RESERVE = 32
# Requests that wait behind one that is being answered, on one connection.
PIPELINE = 16
# Chunks of a byte have five bytes around it, so bodies that come in them are still read.
AROUND_A_BYTE = 8
LATE, UNREAD, TOO_MUCH, NO_HTTP, TOO_MANY = "late", "unread", "too_much", "no_http", "too_many"
KINDS = {400: NO_HTTP, 408: LATE, 431: TOO_MUCH}


class Connections:
    """What the connections of one server process share. For its event loop.

    The server waits for those in `sending` (a request, or the rest of one) and for the `idle` ones
    (another request), in this order since when, and each until a moment. `unread` are those whose
    client does not take its answer.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.sending: dict[Connection, float] = {}
        self.idle: dict[Connection, float] = {}
        self.unread: dict[Connection, float] = {}
        self._closed = metrics.closed_connections

    def forget(self, one: "Connection") -> None:
        """The server no longer waits for it."""
        self.sending.pop(one, None)
        self.idle.pop(one, None)

    def wait_for_request(self, one: "Connection", seconds: float) -> None:
        """It owes a request, or the rest of one, for so long."""
        self.forget(one)
        self.sending[one] = time.monotonic() + seconds

    def let_rest(self, one: "Connection") -> None:
        """It is answered and may ask again."""
        self.forget(one)
        self.idle[one] = time.monotonic() + self.limits.idle_seconds

    def make_room(self) -> bool:
        """Close what has kept the server waiting longest; False where all are being answered."""
        for group in (self.sending, self.idle):
            for one in group:
                if not one.is_being_answered:
                    self.count(TOO_MANY)
                    one.drop()
                    return True
        return False

    def close_late(self) -> None:
        """Close those whose time is up. To be called some times a second."""
        now = time.monotonic()
        for group in (self.sending, self.idle, self.unread):
            for one in [one for one, moment in group.items() if moment < now]:
                one.close_late(is_unread=group is self.unread)

    def count(self, why: str) -> None:
        """Count a connection that the server closes."""
        self._closed.labels(why).inc()


class Config(uvicorn.Config):
    """uvicorn's, with what its connections share."""

    def __init__(self, app: Any, connections: Connections, **told: Any) -> None:
        super().__init__(app, http=Connection, **told)
        self.shared = connections


class Connection(HttpToolsProtocol):
    """uvicorn's, which closes on clients that send too slowly or too much."""

    config: Config

    def __init__(self, config: Config, *arguments: Any, **told: Any) -> None:
        super().__init__(config, *arguments, **told)
        self._all = config.shared
        self._limits = config.shared.limits
        self._is_surplus = False
        self._refusal: tuple[int, str] | None = None
        # Of the request that is being sent: where it is, and its bytes.
        self._has_begun = self._has_head = self._ended = False
        self._bytes = self._head_bytes = self._body_bytes = 0

    @property
    def is_being_answered(self) -> bool:
        """Whether a request came that is not answered yet, and is not the one being sent now."""
        if self.pipeline:
            return True
        is_open = self.cycle is not None and not self.cycle.response_complete
        return is_open and not (self._has_begun and self._has_head)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        allowed = self._limits.connections
        while len(self.connections) > allowed and self._all.make_room():
            pass
        self._is_surplus = len(self.connections) > allowed
        if len(self.connections) > allowed + RESERVE:
            self._all.count(TOO_MANY)
            self.drop()
            return
        self._all.wait_for_request(self, self._limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._all.forget(self)
        self._all.unread.pop(self, None)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if not self._has_begun and self not in self._all.sending:
            self._all.wait_for_request(self, self._limits.head_seconds)
        self._ended = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        # What a request has in a piece that another one ends in is not counted.
        self._bytes = 0 if self._ended else self._bytes + len(data)
        around = self._bytes - self._body_bytes
        if around > self._limits.head_bytes + AROUND_A_BYTE * self._body_bytes:
            self._refuse(*self._too_much())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun, self._has_head = True, False
        self._head_bytes = self._body_bytes = 0
        if self not in self._all.sending:
            self._all.wait_for_request(self, self._limits.head_seconds)
        if len(self.pipeline) >= PIPELINE:
            self._stop(431, f"more than {PIPELINE} requests were sent ahead of their answers")

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count_head(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        if self._is_surplus:
            self._is_surplus = len(self.connections) > self._limits.connections
        self.scope["state"]["is_surplus"] = self._is_surplus
        self._has_head = True
        # The application says 408 before that, where it reads the body.
        seconds = self._limits.seconds + self._limits.head_seconds
        self._all.wait_for_request(self, seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._ended, self._has_begun, self._has_head = True, False, False
        if self.cycle.response_complete and not self.pipeline:
            self._all.let_rest(self)
        else:
            self._all.forget(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() or self._has_begun:
            # It may neither keep what it does not read, nor go on for ever with what is not read.
            self._all.wait_for_request(self, self._limits.head_seconds)
        elif self.cycle.response_complete and not self.pipeline:
            self._all.let_rest(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._all.unread[self] = time.monotonic() + self._limits.seconds

    def resume_writing(self) -> None:
        super().resume_writing()
        self._all.unread.pop(self, None)

    def send_400_response(self, msg: str) -> None:
        self._refuse(*(self._refusal or (400, "the request is no HTTP that can be read")))

    def close_late(self, is_unread: bool) -> None:
        """Close it: the server waited long enough."""
        if self.is_being_answered and not is_unread:
            # What it sent ahead of its answer is not read as long as that is not there.
            self._all.wait_for_request(self, self._limits.head_seconds)
            return
        if is_unread:
            self._all.count(UNREAD)
        if is_unread or self.transport.is_closing():
            self.drop()
        elif self._bytes and not self._has_head:
            message = (
                f"the head did not arrive within {counted(self._limits.head_seconds, 'second')}"
            )
            self._refuse(408, message)
        else:
            self._all.count(LATE)
            self.transport.close()
            self._all.wait_for_request(self, self._limits.head_seconds)

    def drop(self) -> None:
        """Close it at once, without a word."""
        self._all.forget(self)
        self.connections.discard(self)
        self.transport.abort()

    def _count_head(self, size: int) -> None:
        """Count a part of the head, or of what may follow a body in chunks."""
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            self._stop(*self._too_much())

    def _too_much(self) -> tuple[int, str]:
        if self._has_head:
            return 400, f"far more than {self._body_bytes} bytes were sent for a body of so many"
        return 431, f"the head has more than {self._limits.head_bytes} bytes"

    def _stop(self, status: int, message: str) -> None:
        """Let the parser stop, from within: then `send_400_response` is called."""
        self._refusal = status, message
        raise ValueError(message)

    def _refuse(self, status: int, message: str) -> None:
        """Say why, where nothing else is to be said before, and close."""
        self._all.count(KINDS[status])
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering:
            self.drop()
            return
        body = json.dumps({"error": message, "error_type": "validation"}).encode()
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        head += "connection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
        self._all.wait_for_request(self, self._limits.head_seconds)
