"""One server process: address, models, signals. With several workers see `workers.py`."""

import asyncio
import errno
import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn

from textassay.errors import TextassayError, UsageError
from textassay.models.processor import return_freed_memory
from textassay.serving.app import build_app
from textassay.serving.connections import Config, Connections
from textassay.serving.hangups import Hangups
from textassay.serving.logs import log, log_libraries
from textassay.serving.metrics import Metrics
from textassay.serving.models import load_models
from textassay.serving.places import Place
from textassay.serving.reloading import Reloader, reload_when_asked
from textassay.serving.service import Service
from textassay.serving.settings import Settings

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the address and does not listen yet, so nobody waits while models load.

    Raises TextassayError where the address is taken, UsageError where it is none.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host {host}: is no address of this machine.") from None
    taken = socket.socket(family, kind, protocol)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(address)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise _is_taken(host, port) from None
        reason = (error.strerror or str(error)).lower()
        raise TextassayError(
            f"port {port} on {host} cannot be used ({reason}); name another --port or --host."
        ) from None
    return taken


def address_of(taken: socket.socket) -> str:
    """The URL that a socket answers at."""
    host, port = taken.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(
    settings: Settings,
    places: Sequence[Place],
    taken: socket.socket,
    hangups: Hangups,
    on_ready: Callable[[], None],
) -> None:
    """Load the models, answer until a signal, finish what was taken, return.

    on_ready: called when requests are taken. SIGHUP loads the models again.
    """

    def started(service: Service) -> None:
        reloader = Reloader(service, asyncio.get_running_loop())
        arguments = (hangups.reload_asked, reloader, service)
        threading.Thread(target=reload_when_asked, args=arguments, daemon=True).start()
        on_ready()

    serve_until(lambda: hangups.terminal_closed, settings, places, taken, started)


def serve_until(
    has_to_end: Callable[[], bool],
    settings: Settings,
    places: Sequence[Place],
    taken: socket.socket,
    on_ready: Callable[[Service], None],
) -> None:
    """Load the models and answer until a signal comes or `has_to_end`; asked some times a second.

    on_ready: called in the event loop when requests are taken.
    """
    log_libraries()
    metrics = Metrics()
    service = Service(settings, load_models(settings, places, metrics), metrics)
    # What is loaded stays: the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    return_freed_memory()
    connections = Connections(settings.limits, metrics)
    config = Config(
        build_app(service),
        connections,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=1,
        lifespan="off",
        ws="none",
    )
    _Server(config, service, connections, on_ready, has_to_end).run([taken])
    for model in service.models.values():
        model.batcher.close()
    log("stopped")


class _Server(uvicorn.Server):
    """uvicorn's, but a signal first lets every request that was taken be answered.

    Meanwhile `/ready` says 503, so that whoever balances load sends nothing more.
    """

    def __init__(
        self,
        config: Config,
        service: Service,
        connections: Connections,
        on_ready: Callable[[Service], None],
        has_to_end: Callable[[], bool],
    ) -> None:
        super().__init__(config)
        self._service = service
        self._connections = connections
        self._on_ready = on_ready
        self._has_to_end = has_to_end
        self._last_moment = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError:  # another server was bound there, too, and began to listen first
            settings = self._service.settings
            raise _is_taken(settings.host, settings.port) from None
        models = {name: one.classifier.kind for name, one in self._service.models.items()}
        log("started", pid=os.getpid(), models=models)
        self._on_ready(self._service)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end. Not the original's business: it would raise the signal once more."""
        self._drain()

    async def on_tick(self, counter: int) -> bool:
        self._connections.close_late()
        if self._has_to_end():
            self._drain()
        ends = await super().on_tick(counter)
        if not self._service.draining:
            return ends
        if self._service.in_flight and time.monotonic() > self._last_moment:
            log("gave_up", requests_in_flight=self._service.in_flight)
            return True
        return not self._service.in_flight

    def _drain(self) -> None:
        if not self._service.draining:
            log("stopping", requests_in_flight=self._service.in_flight)
            self._last_moment = time.monotonic() + self._service.settings.shutdown_seconds
            self._service.draining = True


def _is_taken(host: str, port: int) -> TextassayError:
    return TextassayError(
        f"port {port} on {host} is taken; stop what listens there, or name another --port."
    )
