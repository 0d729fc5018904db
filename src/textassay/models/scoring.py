"""Classifying with a language model as it is: how probable is each label after the text?"""

from typing import Any

import torch

from textassay.data.labels import LabelMap
from textassay.data.prompt import Prompt
from textassay.errors import UsageError


def label_token_ids(tokenizer: Any, labels: LabelMap, prompt: Prompt) -> list[list[int]]:
    """The tokens of each label as they stand behind the prompt, without those of the prompt.

    UsageError where two labels have the same tokens, which no model could tell apart.
    """
    cue = prompt.fill("text")  # the prompt may end with the text itself
    start = _ids(tokenizer, cue, special=False)
    found = []
    for name in labels.names:
        spaced = name if cue[-1:].isspace() or not name.isascii() else f" {name}"
        whole = _ids(tokenizer, cue + spaced, special=False)
        # Where the label melts into the cue's last token, it is taken by itself.
        joined = whole[: len(start)] == start and len(whole) > len(start)
        found.append(whole[len(start) :] if joined else _ids(tokenizer, spaced, special=False))
    for index, tokens in enumerate(found):
        if not tokens or tokens in found[:index]:
            raise UsageError(
                f"model.head: label_scoring cannot tell {labels.names[index]!r} apart: its tokens "
                "are those of another label; rename the label or use a linear head."
            )
    return found


def tokens_behind(tokenizer: Any) -> int:
    """How many tokens the tokenizer puts behind every text: [SEP], for example."""
    with_all, alone = _ids(tokenizer, "text"), _ids(tokenizer, "text", special=False)
    before = next(
        start for start in range(len(with_all)) if with_all[start : start + len(alone)] == alone
    )
    return len(with_all) - before - len(alone)


def _ids(tokenizer: Any, text: str, special: bool = True) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=special)["input_ids"]
    return ids


def score_labels(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    label_tokens: list[list[int]],
    behind: int = 0,
) -> torch.Tensor:
    """log p(label's tokens | text) for each label, shape [rows, labels], fp32.

    One forward pass: the labels' tokens stand behind the text as branches that see the text and
    their own earlier tokens, but not each other, with positions that go on where the text ends.
    A label of one token needs no branch. The last `behind` tokens of each text, which its tokenizer
    put there, are not looked at.
    """
    if behind:
        from_behind = attention_mask.flip(1).cumsum(1).flip(1)
        attention_mask = attention_mask * (from_behind > behind)
    rows, length = input_ids.shape
    last = (attention_mask * torch.arange(length, device=input_ids.device)).argmax(1)
    ends = attention_mask.sum(1)
    branches = [(label, step) for label, tokens in enumerate(label_tokens)
                for step in range(len(tokens) - 1)]  # fmt: skip
    appended = [label_tokens[label][step] for label, step in branches]
    positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
    mask = attention_mask
    if branches:
        steps = torch.tensor([step for _, step in branches], device=input_ids.device)
        new = torch.tensor(appended, device=input_ids.device).expand(rows, -1)
        input_ids = torch.cat([input_ids, new], 1)
        positions = torch.cat([positions, ends[:, None] + steps], 1)
        mask = _branch_mask(attention_mask, branches, next(model.parameters()).dtype)
    hidden = getattr(model, model.base_model_prefix)(
        input_ids, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    vocabulary = model.get_output_embeddings()
    row = torch.arange(rows, device=input_ids.device)
    first = _log_probabilities(vocabulary(hidden[row, last]))
    scores = [first[:, tokens[0]] for tokens in label_tokens]
    if branches:
        later = _log_probabilities(vocabulary(hidden[:, length:]))
        for place, (label, step) in enumerate(branches):
            scores[label] = scores[label] + later[:, place, label_tokens[label][step + 1]]
    return torch.stack(scores, 1)


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits.float(), -1)


def _branch_mask(
    attention_mask: torch.Tensor, branches: list[tuple[int, int]], dtype: torch.dtype
) -> torch.Tensor:
    """What each position sees, as numbers to add to the scores: [rows, 1, all, all].

    Every position sees itself, so that padding never is a row without anything to see.
    """
    rows, length = attention_mask.shape
    total = length + len(branches)
    device = attention_mask.device
    sees = torch.ones(total, total, dtype=torch.bool, device=device).tril()
    for column, (label, _) in enumerate(branches):
        for place, (other, _) in enumerate(branches):
            if label != other:
                sees[length + place, length + column] = False
    keys = torch.cat(
        [attention_mask.bool(), attention_mask.new_ones(rows, len(branches)).bool()], 1
    )
    visible = sees[None] & keys[:, None, :] | torch.eye(total, dtype=torch.bool, device=device)
    added = torch.zeros(rows, 1, total, total, dtype=dtype, device=device)
    return added.masked_fill(~visible[:, None], torch.finfo(dtype).min)
