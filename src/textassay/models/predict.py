"""Logits for many texts: batches of similar length, the order of the input kept."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from textassay.stopping import stop_if_asked

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def compute_logits(
    model: Any,
    input_ids: Sequence[Sequence[int]],
    pad_id: int,
    batch_size: int = 64,
    precision: str = "fp32",
) -> np.ndarray:
    """Logits of shape [rows, labels] as float64-safe float32, in the order of `input_ids`.

    The model stays in evaluation mode afterwards. Rows are sorted by length, so that little is
    padded; the result does not depend on it. Stopped, where a signal that is heeded has come.
    """
    model.eval()
    device = next(model.parameters()).device
    order = np.argsort([-len(ids) for ids in input_ids], kind="stable")
    found: np.ndarray | None = None
    with torch.inference_mode(), autocast(device, precision):
        for rows in _chunks(order, batch_size):
            stop_if_asked()
            batch = pad_batch([input_ids[row] for row in rows], pad_id)
            output = model(**{name: tensor.to(device) for name, tensor in batch.items()})
            logits = output.logits.float().cpu().numpy()
            if found is None:
                found = np.empty((len(order), logits.shape[1]), dtype=np.float32)
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


def _chunks(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), size):
        yield order[start : start + size]
