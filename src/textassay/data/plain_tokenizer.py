"""A `tokenizer.json` without transformers: the same token ids, and nothing slow to import."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from textassay.data.prompt import Prompt


class PlainTokenizer:
    """Token ids for texts, cut to `max_length`. Safe to use from several threads."""

    def __init__(self, path: Path, pad_id: int, max_length: int, prompt: Prompt | None) -> None:
        self._pad_id = pad_id
        self._max_length = max_length
        self._prompt = prompt
        # A prompt is cut inside its text, so the tokenizer itself must cut nothing.
        self._whole = _without_padding(path)
        self._cut = _without_padding(path)
        self._cut.enable_truncation(max_length)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text; one without any is the pad token."""
        if self._prompt is None:
            found = [encoded.ids for encoded in self._cut.encode_batch_fast(list(texts))]
        else:
            found = [self._prompt.encode(text, self, self._max_length)[0] for text in texts]
        return [ids or [self._pad_id] for ids in found]

    def __call__(self, text: str, return_offsets_mapping: bool = False) -> dict[str, Any]:
        """The library's call, as far as a prompt makes it."""
        encoded = self._whole.encode(text)
        return {"input_ids": encoded.ids, "offset_mapping": encoded.offsets}


def _without_padding(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
