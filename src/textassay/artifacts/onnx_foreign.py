"""ONNX graphs of somebody else's: what they ask for, and what the files beside them say.

Nothing is known about how such a graph treats padding: which token a decoder takes for the last
one, on which side it wants the padding, whether it heeds a mask. So it is given rows of one length,
which need none, and a text's answer never depends on its batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from textassay.artifacts.label_config import label_names, unsupported_problem
from textassay.artifacts.onnx_session import LOGITS
from textassay.console import some
from textassay.errors import GateError
from textassay.files import read_json

LONGEST_UNTOLD = 512
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
# Positions of these begin behind the pad id (transformers: create_position_ids_from_input_ids).
POSITIONS_BEHIND_PAD = frozenset({
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke",
    "markuplm", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
})  # fmt: skip
INTEGERS: dict[str, Any] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
MASKS: dict[str, Any] = {**INTEGERS, "tensor(float)": np.float32, "tensor(float16)": np.float16,
         "tensor(bool)": np.bool_}  # fmt: skip
INPUTS = {"input_ids": INTEGERS, "attention_mask": MASKS, "token_type_ids": INTEGERS,
          "position_ids": INTEGERS}  # fmt: skip
FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
ANEW = "export the classifier anew (textassay export, or Optimum with --task text-classification)"


@dataclass(frozen=True)
class UnpaddedFeed:
    """The inputs of a graph for rows of one length.

    `types` is the type of each input by its name; `segments` gives the token types of a text of so
    many tokens; `most_rows` is 1 for a graph that takes one text at a time.
    """

    types: Mapping[str, Any]
    first_position: int
    segments: Callable[[int], list[int]]
    most_rows: int | None
    pads: ClassVar[bool] = False

    def __call__(self, rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """The inputs that the graph asks for, each of shape [rows, length]."""
        shape = len(rows), len(rows[0])
        values = {
            "input_ids": np.array(rows),
            "attention_mask": np.ones(shape),
            "token_type_ids": np.tile(self.segments(shape[1]), (shape[0], 1)),
            "position_ids": np.tile(np.arange(shape[1]) + self.first_position, (shape[0], 1)),
        }
        return {name: values[name].astype(kind) for name, kind in self.types.items()}


@dataclass(frozen=True)
class Company:
    """What config.json and the tokenizer's settings beside a graph say."""

    config: dict[str, Any]
    tokenizer: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Company":
        """Read both; what is not there is empty. GateError for what is no JSON object."""
        return cls(_object(folder / "config.json"), _object(folder / "tokenizer_config.json"))

    @property
    def truncation_side(self) -> str:
        """The end at which a text that is too long loses tokens."""
        return "left" if self.tokenizer.get("truncation_side") == "left" else "right"

    @property
    def has_segments(self) -> bool:
        """Whether the tokenizer's token types are given to the model; zeros are if not."""
        names = self.tokenizer.get("model_input_names")
        return not isinstance(names, list) or "token_type_ids" in names

    @property
    def first_position(self) -> int:
        """The position of a text's first token."""
        behind_pad = self.config.get("model_type") in POSITIONS_BEHIND_PAD
        return int(_number(self.config.get("pad_token_id")) or 0) + 1 if behind_pad else 0

    @property
    def max_length(self) -> int:
        """What tokenizer and positions allow, 512 at most."""
        positions = [_number(self.config.get(name)) for name in POSITIONS]
        limits = [number - self.first_position for number in positions if number and number > 0]
        longest = _number(self.tokenizer.get("model_max_length"))
        return int(min([LONGEST_UNTOLD, *limits, *([longest] if longest else [])]))

    @property
    def special_tokens(self) -> list[str]:
        """What an empty text is read as, the best first: the tokens for padding, end, unknown."""
        named = [self.tokenizer.get(f"{name}_token") for name in ("pad", "eos", "unk")]
        contents = [one.get("content") if isinstance(one, dict) else one for one in named]
        return [content for content in contents if isinstance(content, str)]

    def labels(self, file: Path) -> tuple[str, ...]:
        """The labels in the order of the logits. GateError where a softmax would not choose one."""
        try:
            names = label_names(self.config)
        except ValueError as error:
            raise GateError(f"{file}: the config.json beside it: {error}.") from None
        problem = unsupported_problem(self.config)
        if problem:
            raise GateError(f"{file}: the config.json beside it: {problem}; nothing was answered.")
        return names


def read_inputs(file: Path, session: Any) -> dict[str, Any]:
    """The type of each input of a graph. GateError, with its name, for one that cannot be given."""
    types = {}
    for one in session.get_inputs():
        if one.name not in INPUTS:
            raise GateError(
                f"{file}: asks for the input {one.name} ({one.type}); a text classifier is given "
                f"{', '.join(INPUTS)} and nothing else: {ANEW}."
            )
        if one.type not in INPUTS[one.name]:
            raise GateError(
                f"{file}: asks for {one.name} as {one.type}, where a text classifier takes "
                f"{' or '.join(INPUTS[one.name])}: {ANEW}."
            )
        if one.shape and not _is_free(one.shape):
            raise GateError(
                f"{file}: {one.name} has the fixed shape {one.shape}, and texts differ in length "
                f"and number: {ANEW}, with dynamic axes."
            )
        types[one.name] = INPUTS[one.name][one.type]
    if "input_ids" not in types:
        raise GateError(
            f"{file}: has no input called input_ids (its inputs: {some(list(types)) or 'none'}): "
            f"{ANEW}."
        )
    return types


def _is_free(shape: Sequence[Any]) -> bool:
    """Whether a shape is [rows, length] with any length; it may be for one row at a time."""
    return len(shape) == 2 and not isinstance(shape[1], int) and not (
        isinstance(shape[0], int) and shape[0] != 1
    )  # fmt: skip


def rows_at_once(session: Any) -> int | None:
    """1 for a graph that takes one text at a time, None for one that takes any number."""
    shapes = [one.shape for one in session.get_inputs() if one.shape]
    return 1 if any(shape[0] == 1 for shape in shapes) else None


def refuse_outputs(file: Path, session: Any, labels: int) -> None:
    """GateError unless a graph gives logits of shape [rows, labels]."""
    outputs = {one.name: one for one in session.get_outputs()}
    logits = outputs.get(LOGITS)
    if logits is None:
        raise GateError(
            f"{file}: has no output called {LOGITS} (its outputs: {some(list(outputs))}); whether "
            f"another one holds logits or probabilities is not known: {ANEW}."
        )
    if logits.type not in FLOATS:
        raise GateError(f"{file}: gives its logits as {logits.type}, not {FLOATS[0]}: {ANEW}.")
    if logits.shape:
        refuse_shape(file, logits.shape, labels)


def refuse_shape(file: Path, shape: Sequence[Any], labels: int) -> None:
    """GateError for logits of another shape than [rows, labels]."""
    if len(shape) != 2:
        raise GateError(
            f"{file}: gives logits of shape {list(shape)}, where a text classifier gives one row "
            f"for each text, [texts, labels]: {ANEW}."
        )
    if isinstance(shape[1], int) and shape[1] != labels:
        raise GateError(
            f"{file}: gives {shape[1]} logits a text, and the config.json beside it has {labels} "
            "labels; put the right config.json there."
        )


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
    except (ValueError, OSError):
        content = None
    if not isinstance(content, dict):
        raise GateError(f"{path}: is no JSON object that can be read; it was changed or cut off.")
    return content


def _number(value: Any) -> float | None:
    """A number, also one that was written as text; None for anything else."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
