"""Logits for many texts: batches of similar length, the order of the input kept."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from textassay.models.inputs import counts_end_tokens
from textassay.models.quantization import is_quantized
from textassay.stopping import stop_if_asked

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
# So far may padding move a logit by the order of sums: in fp32, and with weights of fewer bits,
# which are multiplied in bf16. What is taken for more costs time and changes nothing else.
ROUNDING, ROUNDING_ROUNDED = 1e-5, 0.1

# Whether a model's logits change with padding, once that was looked at.
_sensitive: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def compute_logits(
    model: Any,
    input_ids: Sequence[Sequence[int]],
    pad_id: int,
    batch_size: int = 64,
    precision: str = "fp32",
) -> np.ndarray:
    """Logits of shape [rows, labels] as float64-safe float32, in the order of `input_ids`.

    The model stays in evaluation mode afterwards. Rows are sorted by length, so that little is
    padded; the result does not depend on it: a model whose logits change with padding gets rows of
    one length at a time. Stopped, where a signal that is heeded has come.
    """
    model.eval()
    device = _device(model)
    found: np.ndarray | None = None
    with torch.inference_mode(), autocast(device, precision):
        for rows in _batches(model, input_ids, pad_id, batch_size):
            stop_if_asked()
            logits = _forward(model, [input_ids[row] for row in rows], pad_id)
            if found is None:
                found = np.empty((len(input_ids), logits.shape[1]), dtype=np.float32)
            found[rows] = logits
    return found if found is not None else np.empty((0, 0), dtype=np.float32)


def pad_batch(rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, shape [rows, longest], padded on the right."""
    longest = max(len(ids) for ids in rows)
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for position, row in enumerate(rows):
        ids[position, : len(row)] = torch.as_tensor(row)
        mask[position, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Autocast to bf16 or fp16, or nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=PRECISIONS[precision])


def _forward(model: Any, rows: Sequence[Sequence[int]], pad_id: int) -> np.ndarray:
    device = _device(model)
    batch = pad_batch(rows, pad_id)
    output = model(**{name: tensor.to(device) for name, tensor in batch.items()})
    logits: np.ndarray = output.logits.float().cpu().numpy()
    return logits


def _batches(
    model: Any, input_ids: Sequence[Sequence[int]], pad_id: int, size: int
) -> Iterator[list[int]]:
    """Row numbers, the longest rows first, `size` of those that may stand in one batch."""
    rows = sorted(range(len(input_ids)), key=lambda row: -len(input_ids[row]))
    groups = [rows]
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if counts_end_tokens(base):
        end = base.config.eos_token_id
        groups = _split(rows, lambda row: list(input_ids[row]).count(end))
    for group in groups:
        alike = [group]
        if size > 1 and _is_sensitive(model, input_ids[group[0]], input_ids[group[-1]], pad_id):
            alike = _split(group, lambda row: len(input_ids[row]))
        for part in alike:
            yield from (part[start : start + size] for start in range(0, len(part), size))


def _split(rows: list[int], key: Any) -> list[list[int]]:
    """The rows by a key, each group in their order."""
    return [list(group) for _, group in groupby(sorted(rows, key=key, reverse=True), key)]


def _is_sensitive(model: Any, longest: Sequence[int], shortest: Sequence[int], pad_id: int) -> bool:
    """Whether a row's logits change when it is padded, as ConvBERT's and FNet's do.

    Found out once for a model, with the shortest of the first rows beside the longest.
    """
    if len(longest) == len(shortest):
        return False
    if model not in _sensitive:
        rounded = _is_rounded(model)
        with nullcontext() if rounded else torch.autocast(_device(model).type, enabled=False):
            alone = _forward(model, [shortest], pad_id)[0]
            beside = _forward(model, [shortest, longest], pad_id)[0]
        allowed = ROUNDING_ROUNDED if rounded else ROUNDING
        allowed *= max(1.0, float(np.abs(alone).max()))
        _sensitive[model] = not float(np.abs(alone - beside).max()) <= allowed
    return _sensitive[model]


def _is_rounded(model: Any) -> bool:
    """Whether weights have fewer bits than fp32, so that only autocast can compute with them."""
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return is_quantized(model) or dtypes != {torch.float32}


def _device(model: Any) -> torch.device:
    device: torch.device = next(model.parameters()).device
    return device
