"""Around every request: the token, counting and timing, one line in the log, no traceback."""

import asyncio
import hmac
import time
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from textassay.serving.logs import log
from textassay.serving.service import RETRY_SECONDS, Service

# What tells that a server works: answered where it has no room for more, too.
PROBES = {"/health", "/ready"}
# Key of a request's state: whether it has the token, or none is asked for.
TRUSTED = "is_trusted"
# Who balances load, and who opens the page, has no token; none of these answers for a model.
OPEN = {"/", "/health", "/ready", "/docs", "/openapi.json"}


class Watch:
    """ASGI middleware. What endpoints leave in `scope["state"]` goes into the log."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._token = service.settings.token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        seen = scope.setdefault("state", {})
        seen[TRUSTED] = self._has_token(scope)
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if refusal := self._refusal(scope):
                await refusal(scope, receive, watched)
            elif self._service.draining:
                await self._app(scope, receive, watched)
            else:
                with self._service.taking():
                    await self._app(scope, receive, watched)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            if not self._service.draining:
                raise
            if not status:
                message = "the server shut down before this was answered"
                await _refuse(503, "unhealthy", message)(scope, receive, watched)
        except Exception as error:
            log("error", error=f"{type(error).__name__}: {error}", path=scope["path"])
            if not status:
                await _refuse(500, "backend", "the server failed; its log says why")(
                    scope, receive, watched
                )
        finally:
            # Nothing was sent to a client that has gone.
            self._note(scope, seen, status or 499, time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """What is answered without asking the application."""
        if scope["state"].get("is_surplus") and scope["path"] not in PROBES:
            told = {"Retry-After": str(RETRY_SECONDS), "Connection": "close"}
            message = "as many connections are open as the server takes; come again later"
            return _refuse(503, "overloaded", message, told)
        if not scope["state"][TRUSTED] and scope["path"] not in OPEN:
            asks = {"WWW-Authenticate": "Bearer"}
            return _refuse(401, "unauthorized", "a bearer token is needed", asks)
        if self._service.draining and scope["method"] == "POST":
            elsewhere = {"Retry-After": str(RETRY_SECONDS), "Connection": "close"}
            return _refuse(503, "unhealthy", "the server is shutting down", elsewhere)
        return None

    def _has_token(self, scope: Scope) -> bool:
        """Whether a request has the token, or none is asked for."""
        if self._token is None:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, token = given.partition(b" ")
        fits = hmac.compare_digest(token.strip(), self._token.encode())
        return fits and kind.lower() == b"bearer"

    def _note(self, scope: Scope, seen: dict[str, Any], status: int, seconds: float) -> None:
        # A route's own path: what clients make up must not become ever new series.
        endpoint = getattr(scope.get("route"), "path", "other")
        metrics = self._service.metrics
        metrics.requests.labels(endpoint, status).inc()
        metrics.seconds.labels(endpoint).observe(seconds)
        if endpoint not in ("/health", "/ready", "/metrics"):
            log(
                "request", method=scope["method"], path=scope["path"], status=status,
                seconds=round(seconds, 6), **seen.get("log", {}),
            )  # fmt: skip


def _refuse(
    status: int, error_type: str, error: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error": error, "error_type": error_type}, status, headers)
