"""Serve classifiers over HTTP until a signal."""

from pathlib import Path

import click

from textassay.config.user_path import UserPath
from textassay.console import SPELLING, Command, reports_errors

POSITIVE, AT_LEAST_0 = click.IntRange(min=1), click.IntRange(min=0)
SECONDS = click.FloatRange(min=0, min_open=True)
BACKENDS = click.Choice(["auto", "torch", "onnx", "onnx-int8"])
FILE = UserPath(dir_okay=False, exists=True)


@click.command(cls=Command, context_settings={**SPELLING, "show_default": True})
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@click.option("--host", default="127.0.0.1", help="0.0.0.0: everybody who reaches this machine")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="0: any free one")
@click.option("--backend", type=BACKENDS, default="auto", help="which artifact of a run answers")
@click.option("--base_model_path", help="the base of adapters, where it moved")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=POSITIVE, help="CPU threads of a worker  [default: its share]")
@click.option("--workers", type=POSITIVE, default=1, help="processes, each with all models")
@click.option("--batch_size", type=POSITIVE, default=64, help="texts of requests that go together")
@click.option("--cache_size", type=AT_LEAST_0, default=10_000, help="answers that are kept")
@click.option("--max_body_bytes", type=POSITIVE, default=2_000_000, help="of a request")
@click.option("--max_text_chars", type=POSITIVE, default=100_000, help="of a text")
@click.option("--max_items", type=POSITIVE, default=128, help="texts of a request")
@click.option("--max_queue", type=POSITIVE, default=1024, help="texts that wait for a model")
@click.option("--max_connections", type=POSITIVE, default=512, help="of a worker")
@click.option("--max_head_bytes", type=POSITIVE, default=65_536, help="of a request's head")
@click.option("--timeout", type=SECONDS, default=30.0, help="seconds that a request may take")
@click.option("--head_timeout", type=SECONDS, default=10.0, help="seconds for a request's head")
@click.option("--idle_timeout", type=SECONDS, default=75.0, help="seconds between two requests")
@click.option("--shutdown_timeout", type=SECONDS, default=30.0, help="the same after a signal")
@click.option("--token_file", type=FILE, help="a file with the bearer token to ask for")
@click.option("--log_texts", is_flag=True, help="write the texts themselves into the log")
@reports_errors
def main(
    models: tuple[str, ...], host: str, port: int, backend: str, base_model_path: str | None,
    device: str, threads: int | None, workers: int, batch_size: int, cache_size: int,
    max_body_bytes: int, max_text_chars: int, max_items: int, max_queue: int,
    max_connections: int, max_head_bytes: int, timeout: float, head_timeout: float,
    idle_timeout: float, shutdown_timeout: float, token_file: Path | None, log_texts: bool,
) -> None:  # fmt: skip
    """Serve every MODEL: a run, an artifact, or a classifier by its hub name.

    Of a run the fastest artifact answers that is there: onnx-int8/, onnx/, model/. The first MODEL
    answers where a request names none.
    """
    from textassay.serving.settings import Limits, Settings, name_models, read_token
    from textassay.serving.start import start

    start(
        Settings(
            name_models(models), backend, host, port,
            Limits(max_body_bytes, max_text_chars, max_items, max_queue, timeout, max_connections,
                   max_head_bytes, head_timeout, idle_timeout),
            cache_size, batch_size, device, threads, base_model_path,
            read_token(token_file) if token_file else None, log_texts, workers, shutdown_timeout,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
