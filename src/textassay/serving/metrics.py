"""What Prometheus reads at `/metrics`. With several workers the sums over all of them."""

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

# The library's own variable: a directory that all workers write to.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The counters of one server process."""

    def __init__(self) -> None:
        # The library's second series for each counter, when it began, which nobody asks for.
        disable_created_metrics()
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "textassay_requests", "Requests, by endpoint and HTTP status.",
            ["endpoint", "status"], registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "textassay_request_seconds", "From a request's head to the end of its answer.",
            ["endpoint"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.batch_size = Histogram(
            "textassay_batch_size", "Texts that a model computed together.",
            ["model"], buckets=TEXTS, registry=registry,
        )  # fmt: skip
        self.batch_seconds = Histogram(
            "textassay_batch_seconds", "What a model needed for a batch, tokens included.",
            ["model"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.cache_hits = Counter(
            "textassay_cache_hits", "Texts whose answer was known.", ["model"], registry=registry
        )
        self.cache_misses = Counter(
            "textassay_cache_misses", "Texts that were computed.", ["model"], registry=registry
        )
        self.predictions = Counter(
            "textassay_predictions", "Answers, by label.", ["model", "label"], registry=registry
        )
        self.queue = Gauge(
            "textassay_queue_texts", "Texts that wait for a model.",
            ["model"], registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.in_flight = Gauge(
            "textassay_requests_in_flight", "Requests that are being answered.",
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip

        self.closed_connections = Counter(
            "textassay_connections_closed", "Connections that the server closed, by the reason.",
            ["reason"], registry=registry,
        )  # fmt: skip

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        if not os.environ.get(SHARED):
            return generate_latest(self._registry)
        all_workers = CollectorRegistry()
        MultiProcessCollector(all_workers)
        return generate_latest(all_workers)
