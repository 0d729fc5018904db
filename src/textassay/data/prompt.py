"""Prompted input: the text in a template, cut so that the cue after it is never lost."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from textassay.errors import UsageError


@dataclass(frozen=True)
class Prompt:
    """What stands before and after the text."""

    head: str
    tail: str

    @classmethod
    def from_template(cls, template: str, labels: Sequence[str]) -> Self:
        """A template with `{text}` once and, if wanted, `{class_labels}` (a JSON list)."""
        head, _, tail = template.partition("{text}")
        listed = json.dumps(list(labels), ensure_ascii=False)
        return cls(head.replace("{class_labels}", listed), tail.replace("{class_labels}", listed))

    def fill(self, text: str) -> str:
        """The whole input for one text."""
        return f"{self.head}{text}{self.tail}"

    def encode(self, text: str, tokenizer: Any, max_length: int) -> tuple[list[int], bool]:
        """Token ids of the filled template, and whether the text had to be cut.

        Only the text gets shorter, from its end, until everything fits into `max_length` tokens.
        """
        kept, cut = text, False
        while True:
            encoded = tokenizer(self.fill(kept), return_offsets_mapping=True)
            excess = len(encoded["input_ids"]) - max_length
            if excess <= 0:
                return encoded["input_ids"], cut
            if not kept:
                raise UsageError(
                    f"model.max_seq_length: the prompt alone takes {len(encoded['input_ids'])} "
                    f"tokens, more than {max_length}; raise it or shorten data.prompt."
                )
            kept, cut = self._shortened(kept, encoded["offset_mapping"], excess), True

    def _shortened(self, text: str, offsets: Sequence[tuple[int, int]], excess: int) -> str:
        """`text` without its last `excess` tokens, at least one character shorter."""
        start, end = len(self.head), len(self.head) + len(text)
        inside = [a for a, b in offsets if b > a and start <= a < end]
        keep_until = inside[-excess] - start if excess <= len(inside) else 0
        return text[: min(keep_until, len(text) - 1)]
