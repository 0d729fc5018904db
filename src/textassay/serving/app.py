"""The endpoints."""

import asyncio
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from textassay.console import counted
from textassay.serving.batching import Answer
from textassay.serving.bodies import (
    ErrorBody,
    Parameters,
    PredictBody,
    Prediction,
    RefusedError,
    Sentiment,
    SentimentBody,
    parse,
    predict_texts,
    sentiment_texts,
)
from textassay.serving.info import describe
from textassay.serving.middleware import TRUSTED, Watch
from textassay.serving.models import ServedModel
from textassay.serving.service import Service

PAGES = Path(__file__).parent / "pages"
# A body that is so many times too large is not even read to its end before it is refused.
PATIENCE = 10
# The pages load nothing from anywhere, and talk to nobody but this server.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
# Where the rest of a body is not read.
CLOSE = {"Connection": "close"}
WHY_NOT = {
    400: "no JSON", 401: "no bearer token, or another one", 404: "no such model",
    408: "the body did not arrive in time", 413: "the body is too large",
    422: "other types, or too much of something", 429: "too many texts wait; see Retry-After",
    503: "no answer in time, or the server is shutting down; see Retry-After",
}  # fmt: skip
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": why} for status, why in WHY_NOT.items()
}


def build_app(service: Service) -> FastAPI:
    """The ASGI application of a service."""
    app = FastAPI(
        title="textassay",
        version=version("textassay"),
        summary="Text classification over HTTP.",
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Watch, service=service)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    _add_answers(app, service)
    _add_state(app, service)
    _add_pages(app)
    return app


def _add_answers(app: FastAPI, service: Service) -> None:
    several = _answered(list[Prediction] | list[list[Prediction]])
    predict_doc: dict[str, Any] = {"responses": several, "openapi_extra": _takes(PredictBody)}
    sentiments = _answered(Sentiment | list[Sentiment])
    sentiment_doc: dict[str, Any] = {
        "responses": sentiments,
        "openapi_extra": _takes(SentimentBody),
    }

    # huggingface_hub's InferenceClient posts to the URL that it was given, with or without a path.
    @app.post("/", include_in_schema=False)
    @app.post("/predict", summary="Labels, the best first", **predict_doc)
    async def predict(request: Request) -> Response:
        """As text-embeddings-inference answers: a list for a text, a list of lists for a batch."""
        return await _predict(request, service, None)

    @app.post("/models/{name}/predict", summary="The same of one model", **predict_doc)
    async def predict_of(name: str, request: Request) -> Response:
        """/predict of the model with this name."""
        return await _predict(request, service, name)

    @app.post("/sentiment-analyze", summary="One label and all probabilities", **sentiment_doc)
    async def sentiment(request: Request) -> Response:
        """An object for a text, a list of them for a list."""
        return await _sentiment(request, service, None)

    @app.post("/models/{name}/sentiment-analyze", summary="The same of one model", **sentiment_doc)
    async def sentiment_of(name: str, request: Request) -> Response:
        """/sentiment-analyze of the model with this name."""
        return await _sentiment(request, service, name)


def _add_state(app: FastAPI, service: Service) -> None:
    @app.head("/health", include_in_schema=False)
    @app.get("/health", summary="Whether the process works", responses={503: {}})
    async def health() -> Response:
        return _json({"status": "ok"}) if service.is_healthy else _json({"status": "broken"}, 503)

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", summary="Whether new requests are taken", responses={503: {}})
    async def ready(request: Request) -> Response:
        """503 while the server shuts down. Files that changed since they were loaded are named, and
        workers that are missing, and what came of the last SIGHUP; to whom has the token, where one
        is asked for.
        """
        is_ready = service.is_healthy and not service.draining
        if not getattr(request.state, TRUSTED):
            return _json({"ready": is_ready}, 200 if is_ready else 503)
        changed = {name: files for name, files in (await service.changed_files()).items() if files}
        body: dict[str, Any] = {"ready": is_ready, "models": list(service.models)}
        body["changed_files"] = changed
        if service.workers:
            body["workers"] = service.workers
        if service.last_reload:
            body["last_reload"] = service.last_reload
        return _json(body, 200 if is_ready else 503)

    @app.get("/info", summary="Which models, and their limits", responses={401: REFUSALS[401]})
    async def info() -> Response:
        """Of the default model as text-embeddings-inference says it, then of every model."""
        return _json(describe(service, await service.changed_files()))

    @app.get(
        "/metrics",
        summary="For Prometheus",
        response_class=PlainTextResponse,
        responses={401: REFUSALS[401]},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_pages(app: FastAPI) -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in PAGES.glob("*.html")}

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(pages["try"], headers=PAGE_HEADERS)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(pages["docs"], headers=PAGE_HEADERS)


async def _predict(request: Request, service: Service, name: str | None) -> Response:
    with service.holding() as hold:
        content = await _read(request, service, hold)
        body = parse(content, PredictBody, service.settings.limits)
        model = service.find(name if name is not None else body.model)
        texts, is_single = predict_texts(body.inputs, service.settings.limits)
        with model.answering():
            answers = await _answers(request, service, model, texts)
    if body.truncate is False:
        _refuse_full(model, answers, is_single)
    told = body.parameters or Parameters()
    raw = body.raw_scores or told.function_to_apply == "none"
    sorted_answers = [_best_first(model, answer, raw)[: told.top_k] for answer in answers]
    alone = is_single and body.parameters is None
    return _json(sorted_answers[0] if alone else sorted_answers)


async def _sentiment(request: Request, service: Service, name: str | None) -> Response:
    with service.holding() as hold:
        content = await _read(request, service, hold)
        body = parse(content, SentimentBody, service.settings.limits)
        model = service.find(name if name is not None else body.model)
        texts, is_single = sentiment_texts(body, service.settings.limits)
        with model.answering():
            answers = await _answers(request, service, model, texts)
    found = []
    for answer in answers:
        probabilities = dict(zip(model.labels, answer.probabilities, strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        found.append(
            {"label": label, "confidence": probabilities[label], "probabilities": probabilities}
        )
    return _json(found[0] if is_single else found)


async def _answers(
    request: Request, service: Service, model: ServedModel, texts: list[str]
) -> list[Answer]:
    request.state.log = {"model": model.name, "items": len(texts)}
    if service.settings.log_texts:
        request.state.log["texts"] = texts
    return await service.answers(model, texts)


def _best_first(model: ServedModel, answer: Answer, raw: bool) -> list[dict[str, Any]]:
    scores = answer.logits if raw else answer.probabilities
    pairs = sorted(zip(scores, model.labels, strict=True), key=lambda pair: -pair[0])
    return [{"score": score, "label": label} for score, label in pairs]


def _refuse_full(model: ServedModel, answers: list[Answer], is_single: bool) -> None:
    """RefusedError where a text may have been cut. Its tokens are known from the model's queue."""
    full = [answer.is_full for answer in answers]
    if any(full):
        where = "inputs" if is_single else f"inputs[{full.index(True)}]"
        raise RefusedError(
            422,
            "validation",
            f"{where}: fills all {model.classifier.max_length} tokens that the "
            "model reads, so its end may be cut off, and truncate is false",
        )


async def _read(request: Request, service: Service, hold: Callable[[int], None]) -> bytes:
    """The body. RefusedError 413 where it is too large, 408 where it does not come.

    `hold` is told what is in memory.
    """
    limits = service.settings.limits
    message = f"the body has more than {limits.body_bytes:,} bytes"
    too_large = RefusedError(413, "validation", message)
    endless = RefusedError(413, "validation", message, CLOSE)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > PATIENCE * limits.body_bytes:
        raise endless
    content = bytearray()
    size = 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                size += len(chunk)
                # Read on: a client that is cut off while it sends never sees why.
                if size > PATIENCE * limits.body_bytes:
                    raise endless
                if size <= limits.body_bytes:
                    hold(len(chunk))
                    content += chunk
    except TimeoutError:
        message = f"the body did not arrive within {counted(limits.seconds, 'second')}"
        raise RefusedError(408, "validation", message, CLOSE) from None
    if size > limits.body_bytes:
        raise too_large
    return bytes(content)


def _answered(model: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "description": "the answer"}, **REFUSALS}


def _takes(body: type[PredictBody] | type[SentimentBody]) -> dict[str, Any]:
    schema = body.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text, status, headers, media_type="application/json")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _json(error.body, error.status, error.headers)


async def _not_found(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = {"error": str(error.detail).lower(), "error_type": "not_found"}
    return _json(body, error.status_code, dict(error.headers or {}))
