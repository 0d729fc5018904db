"""Classifying with a language model as it is: how probable is each label after the text?"""

from typing import Any

import torch

from textassay.data.labels import LabelMap
from textassay.data.prompt import Prompt
from textassay.errors import UsageError
from textassay.models.quantization import is_quantized

# Of log probabilities. fp32 is within 1e-4; a base in 4 bits multiplies in bf16.
AGREEMENT, AGREEMENT_QUANTIZED = 0.001, 0.5


def label_token_ids(tokenizer: Any, labels: LabelMap, prompt: Prompt) -> list[list[int]]:
    """The tokens of each label as they stand behind the prompt, without those of the prompt.

    UsageError where a label's tokens are another's, or their beginning: no model could tell them
    apart, since the beginning is at least as probable as the whole, whatever the text.
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
        for other, longer in enumerate(found):
            if other != index and longer[: len(tokens)] == tokens:
                raise UsageError(
                    f"model.head: label_scoring cannot tell {labels.names[index]!r} from "
                    f"{labels.names[other]!r}: the tokens of the first begin the second, so it "
                    "would always win; rename a label or use a linear head."
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


def refuse_other_scores(
    model: Any, forward: Any, ids: list[int], label_tokens: list[list[int]], behind: int
) -> None:
    """UsageError unless `score_labels` gives for a text what the model's own `forward` gives.

    Some architectures scale or cap their logits behind the output layer, or attend in ways that the
    branches' mask does not know. `ids` is a text, without padding.
    """
    row, text = torch.tensor([ids]), ids[: len(ids) - behind]
    allowed = AGREEMENT_QUANTIZED if is_quantized(model) else AGREEMENT
    before = [(parameter, parameter.data) for parameter in model.parameters()]
    with torch.inference_mode():
        found = score_labels(model, row, torch.ones_like(row), label_tokens, behind)[0]
        for label, tokens in enumerate(label_tokens):
            own = forward(model, input_ids=torch.tensor([[*text, *tokens]])).logits[0]
            log_p = _log_probabilities(own[len(text) - 1 : -1])
            wanted = log_p.gather(1, torch.tensor(tokens)[:, None]).sum()
            if not abs(found[label] - wanted) <= allowed:
                raise UsageError(
                    f"model.head: label_scoring does not fit {model.config.model_type} models: "
                    f"their own log probability of a label is {wanted:.4f}, scored in one pass it "
                    f"is {found[label]:.4f}; use a linear head."
                )
    for parameter, data in before:  # bitsandbytes has rounded the biases
        parameter.data = data


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
