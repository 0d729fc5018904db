"""What a model must know of a text beside its tokens: positions, segments, which token is the last.

All of it follows from the attention mask, so that a text's logits depend on the text alone: not on
the texts beside it, on the side of the padding, or on the id that a batch is padded with.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

# These compute something else with segments of 0 than without any.
ASSUME_NONE = {"xlnet", "xlm", "flaubert"}


@dataclass(frozen=True)
class Segments:
    """The segment (`token_type_ids`) of each token of a text, special tokens before and after."""

    before: tuple[int, ...]
    text: int
    after: tuple[int, ...]

    @property
    def are_all_0(self) -> bool:
        """Whether they are what most models assume where none are given."""
        return not any((*self.before, self.text, *self.after))

    def of(self, mask: torch.Tensor) -> torch.Tensor:
        """`token_type_ids` for an attention mask of shape [rows, length]; 0 for padding."""
        place = mask.long().cumsum(-1) - 1
        from_end = mask.long().sum(-1, keepdim=True) - 1 - place
        found = torch.full_like(place, self.text)
        for index, segment in enumerate(self.before):
            found = found.masked_fill(place == index, segment)
        for index, segment in enumerate(reversed(self.after)):
            found = found.masked_fill(from_end == index, segment)
        return found * mask.long()


def segments_of(tokenizer: Any) -> Segments | None:
    """The segments that a tokenizer gives a text; None where it gives none."""
    if "token_type_ids" not in tokenizer.model_input_names:
        return None
    encoded = tokenizer("a text", return_special_tokens_mask=True)
    segments, special = encoded["token_type_ids"], encoded["special_tokens_mask"]
    if all(special):
        return None
    start, end = special.index(0), len(special) - special[::-1].index(0)
    return Segments(tuple(segments[:start]), segments[start], tuple(segments[end:]))


def bind_to_mask(model: Any, tokenizer: Any = None) -> None:
    """Let a classifier of transformers take from the attention mask what depends on the padding.

    A decoder counts positions over real tokens (the library counts columns, so that padding on the
    left would shift GPT-2's) and scores the last real one (the library looks for the pad id, which
    the batch may not be padded with). A model with segments gets those that its tokenizer gives.
    """
    # PEFT calls the classifier's forward without its hooks, but not the backbone's.
    backbone = getattr(model, model.base_model_prefix)
    takes = inspect.signature(backbone.forward).parameters
    if hasattr(model, "score") and "position_ids" in takes:
        backbone.register_forward_pre_hook(_add_positions, with_kwargs=True)
    segments = segments_of(tokenizer) if tokenizer and "token_type_ids" in takes else None
    if segments and not (segments.are_all_0 and model.config.model_type not in ASSUME_NONE):
        hook = partial(_add_segments, segments)
        backbone.register_forward_pre_hook(hook, with_kwargs=True)
    if _looks_for_pad_token(model):
        # The id of the config: the text's own last tokens, where they are that one, do not count,
        # which is how transformers has it in training, one text at a time.
        pad_id = getattr(model.config.get_text_config(), "pad_token_id", None)
        backbone.register_forward_hook(partial(_repeat_last, pad_id), with_kwargs=True)
    elif _takes_last_column(model):
        backbone.register_forward_hook(partial(_repeat_last, None), with_kwargs=True)


def counts_end_tokens(model: Any) -> bool:
    """Whether the library's classifier wants as many end tokens in each text of a batch (BART)."""
    return "eos_mask" in _local_names(model)


def _looks_for_pad_token(model: Any) -> bool:
    """Whether the library scores every position, then takes the last that is no pad token."""
    return "last_non_pad_token" in _local_names(model) and not model.config.is_encoder_decoder


def _takes_last_column(model: Any) -> bool:
    """Whether the library takes the last position, padding or not: XLNet, padded on the left."""
    summary = getattr(model, "sequence_summary", None)
    return summary is not None and getattr(summary, "summary_type", None) == "last"


def _local_names(model: Any) -> Sequence[str]:
    """The local variables of a model's `forward`; transformers has no other mark of its pooling."""
    return inspect.unwrap(type(model).forward).__code__.co_varnames


def _add_positions(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.dim() == 2 and kwargs.get("position_ids") is None:
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
        kwargs = {**kwargs, "position_ids": positions}
    return args, kwargs


def _add_segments(
    segments: Segments, _: Any, args: Any, kwargs: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    mask = kwargs.get("attention_mask")
    has_tokens = bool(args) or kwargs.get("input_ids") is not None
    if has_tokens and mask is not None and kwargs.get("token_type_ids") is None:
        kwargs = {**kwargs, "token_type_ids": segments.of(mask)}
    return args, kwargs


def _repeat_last(
    pad_id: int | None, _: Any, args: Any, kwargs: dict[str, Any], output: Any
) -> Any:  # fmt: skip
    """The hidden state of each text's last token at every position: whichever is taken is right."""
    mask, ids = kwargs.get("attention_mask"), args[0] if args else kwargs.get("input_ids")
    if mask is None or mask.dim() != 2:
        return output
    hidden = output[0]
    last = _last_positions(mask.bool(), ids, pad_id)
    repeated = hidden[torch.arange(len(hidden), device=hidden.device), last]
    repeated = repeated[:, None].expand_as(hidden)
    if isinstance(output, tuple):
        return (repeated, *output[1:])
    output.last_hidden_state = repeated
    return output


def _last_positions(
    mask: torch.Tensor, ids: torch.Tensor | None, pad_id: int | None
) -> torch.Tensor:
    """The column of the last token that is not `pad_id`; the first of a text of nothing else."""
    length = mask.shape[1]
    columns = torch.arange(length, device=mask.device)
    real = mask if ids is None or pad_id is None else mask & (ids != pad_id)
    rank = torch.where(real, length + columns, torch.where(mask, length - columns, 0))
    return rank.argmax(-1)
