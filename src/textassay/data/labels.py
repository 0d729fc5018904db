"""Label names and their ids, in an order that is stable and stored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from textassay.data.label_values import WHOLE_NUMBER, lookalike_key
from textassay.errors import DataError


@dataclass(frozen=True)
class LabelMap:
    """Label names; the position of a name is its id."""

    names: tuple[str, ...]

    @classmethod
    def from_labels(cls, labels: Iterable[str], order: Sequence[str] | None = None) -> Self:
        """The labels that occur: in the given order, numbers by value, words by alphabet."""
        seen = set(labels)
        if order is not None:
            return cls(tuple(name for name in order if name in seen))
        if all(WHOLE_NUMBER.fullmatch(name) for name in seen):
            return cls(tuple(sorted(seen, key=lambda name: (int(name), name))))
        return cls(tuple(sorted(seen)))

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The map of a `label_mapping.json`."""
        by_id = {int(key): name for key, name in content["id2label"].items()}
        return cls(tuple(by_id[index] for index in range(len(by_id))))

    def to_json(self) -> dict[str, Any]:
        """`label2id` and `id2label`, as in a model's config."""
        return {
            "label2id": self.label2id,
            "id2label": {str(i): n for n, i in self.label2id.items()},
        }

    @property
    def label2id(self) -> dict[str, int]:
        """{name: id}"""
        return {name: index for index, name in enumerate(self.names)}

    def ids(self, labels: Iterable[str]) -> list[int]:
        """The ids of labels that are all known."""
        known = self.label2id
        return [known[label] for label in labels]

    def __len__(self) -> int:
        return len(self.names)


def refuse_unknown_labels(split: str, labels: set[str], known: LabelMap) -> None:
    """DataError where a split has labels that no training row has."""
    unknown = sorted(labels - set(known.names))
    if unknown:
        listed = ", ".join(repr(name[:40]) for name in unknown[:10])
        alike = {lookalike_key(name): name for name in known.names}
        meant = alike.get(lookalike_key(unknown[0]))
        read_as = f", or read it as {meant!r} with --normalize_labels" if meant else ""
        raise DataError(
            f"{split}: the label{'s' if len(unknown) > 1 else ''} {listed} stand"
            f"{'' if len(unknown) > 1 else 's'} there and not in train, which has "
            f"{', '.join(known.names)[:200]}; mend the label or add training rows{read_as}."
        )
