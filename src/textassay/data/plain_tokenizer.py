"""A `tokenizer.json` without transformers: the same token ids, and nothing slow to import."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from textassay.data.long_texts import encode_beginnings
from textassay.data.prompt import Prompt


class PlainTokenizer:
    """Token ids for texts, cut to `max_length`. Safe to use from several threads."""

    def __init__(
        self,
        path: Path,
        pad_id: int,
        max_length: int,
        prompt: Prompt | None,
        truncation_side: str = "right",
    ) -> None:
        """Read the tokenizer.json at `path`. A text that is too long is cut at `truncation_side`.

        Raises what the library raises for a file that is no tokenizer.
        """
        self._pad_id = pad_id
        self._max_length = max_length
        self._prompt = prompt
        # A prompt is cut inside its text, so the tokenizer itself must cut nothing.
        self._whole = _without_padding(path)
        self._cut = _without_padding(path)
        self._side = truncation_side
        self._cut.enable_truncation(max_length, direction=truncation_side)

    def __len__(self) -> int:
        """Return how many tokens it has, added ones included."""
        return self._whole.get_vocab_size()

    def spell(self, token_id: int) -> str | None:
        """Return the token with this id."""
        return self._whole.id_to_token(token_id)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text; one without any is the pad token."""
        if self._prompt is None:
            encodings = encode_beginnings(
                texts, self._cut.encode_batch_fast, self._cut, self._max_length, self._side
            )
            found = [encoded.ids for encoded in encodings]
        else:
            found = [self._prompt.encode(text, self, self._max_length)[0] for text in texts]
        return [ids or [self._pad_id] for ids in found]

    def segments(self, length: int) -> list[int]:
        """The token types of a text of so many tokens, special ones included.

        They differ where the tokenizer gives its own tokens another type than the text (XLNet).
        """
        encoded = self._whole.encode("a")
        special = encoded.special_tokens_mask
        before = sum(takewhile(bool, special))
        behind = sum(takewhile(bool, reversed(special[before:])))
        types = encoded.type_ids
        text = types[before] if before < len(types) else 0
        return [
            *types[:before],
            *[text] * (length - before - behind),
            *types[len(types) - behind :],
        ]

    def __call__(self, text: str, return_offsets_mapping: bool = False) -> dict[str, Any]:
        """The library's call, as far as a prompt makes it."""
        encoded = self._whole.encode(text)
        return {"input_ids": encoded.ids, "offset_mapping": encoded.offsets}


def _without_padding(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
