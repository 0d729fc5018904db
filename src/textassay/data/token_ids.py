"""The token ids of texts, as every model reads them."""

from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import Encoding

from textassay.data.long_texts import encode_beginnings
from textassay.data.prompt import Prompt
from textassay.errors import DataError


def encode_texts(
    texts: list[str], tokenizer: Any, max_length: int, prompt: Prompt | None
) -> tuple[list[list[int]], list[bool]]:
    """Token ids of each text, cut to `max_length`, and which texts were cut.

    Every text has a token: where the tokenizer adds none, an empty one is the pad token.
    """
    nothing = [tokenizer.pad_token_id]
    if prompt is not None:
        pairs = [prompt.encode(text, tokenizer, max_length) for text in texts]
        return [ids or nothing for ids, _ in pairs], [cut for _, cut in pairs]

    def encode(beginnings: list[str]) -> list[Encoding]:
        encoded = tokenizer(
            beginnings,
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        found: list[Encoding] = encoded.encodings
        return found

    backend, side = tokenizer.backend_tokenizer, tokenizer.truncation_side
    rows = encode_beginnings(texts, encode, backend, max_length, side)
    return [row.ids or nothing for row in rows], [bool(row.overflowing) for row in rows]


def refuse_unknown_tokens(
    input_ids: Sequence[Sequence[int]], rows: int, spell: Callable[[int], str | None]
) -> None:
    """Raise DataError for the first text with a token beyond the `rows` that the embeddings have.

    A tokenizer may have more tokens than the embeddings that were saved. `spell` gives a token.
    """
    for number, row in enumerate(input_ids, start=1):
        if max(row) >= rows:
            raise DataError(
                f"text {number}: has the token {spell(max(row))!r}, which was added to the "
                f"tokenizer, and the model has no row for it (it has {rows}); its embeddings were "
                "not saved with it."
            )
