"""A classifier of torch as an ONNX graph: batch and length are free, pooling and softmax inside."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from textassay.errors import UsageError, first_line

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("logits", "probabilities")


class _WithProbabilities(torch.nn.Module):
    """What the graph computes: logits, and their softmax over the temperature."""

    def __init__(self, model: Any, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, input_ids: Any, attention_mask: Any) -> tuple[Any, Any]:
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits, torch.softmax(logits / self.temperature, dim=-1)


def export_graph(model: Any, temperature: float, path: Path) -> None:
    """Write a plain transformers classifier, in fp32 on the CPU, to `path`.

    Inputs `input_ids` and `attention_mask` of shape [batch, length], int64; outputs `logits` and
    `probabilities` of shape [batch, labels]. Raises UsageError for what torch cannot export.
    """
    wrapped = _WithProbabilities(model, temperature).eval()
    # Sizes that occur nowhere else, so that none is taken for a constant of the model.
    ids = torch.full((3, 7), 5, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with _plain_attention(model), _quiet():
        try:
            program = torch.onnx.export(
                wrapped, (ids, mask), dynamo=True, input_names=list(INPUTS),
                output_names=list(OUTPUTS), dynamic_shapes=dict.fromkeys(INPUTS, free),
            )  # fmt: skip
        except Exception as error:  # of several libraries, with whole listings in the message
            raise UsageError(
                f"--to onnx: torch cannot export a {model.config.model_type} classifier with this "
                f"head ({type(error).__name__}: {first_line(error)[:300]})."
            ) from None
        assert program is not None
        _name_free_sizes(program.model)
        program.save(str(path), external_data=None)


def _name_free_sizes(model: Any) -> None:
    """`batch` and `length` instead of the tracer's own names."""
    for value in model.graph.inputs:
        value.shape = type(value.shape)(["batch", "length"])
    for value in model.graph.outputs:
        value.shape = type(value.shape)(["batch", value.shape[1]])


@contextmanager
def _plain_attention(model: Any) -> Iterator[None]:
    """Attention in its plain form, which ONNX's own tools know how to fuse, and no cache."""
    config = model.config
    before = config._attn_implementation, config.use_cache if hasattr(config, "use_cache") else None
    model.set_attn_implementation("eager")
    config.use_cache = False
    try:
        yield
    finally:
        model.set_attn_implementation(before[0])
        config.use_cache = before[1]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells its steps on standard output."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
