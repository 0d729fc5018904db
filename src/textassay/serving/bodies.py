"""What requests may hold, and what is said about those that hold something else."""

import json
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from textassay.console import counted
from textassay.serving.settings import Limits

ONE = {"type": "string", "description": "one text"}
MANY = {"type": "array", "items": {"type": "string"}, "minItems": 1, "description": "a batch"}
NESTED = {
    "type": "array",
    "items": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1},
    "minItems": 1,
    "description": "a batch as text-embeddings-inference takes it",
}


# A body of 2 MB may hold a million lists, which take seconds, and everybody else would wait.
MOST_VALUES = 20_000
MARKS = b",[{"
# A text that does not end is one, too: else each quotation mark in it would be tried anew.
JSON_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


class RefusedError(Exception):
    """A request that is not answered: an HTTP status, and the body that says why.

    error_type: as text-embeddings-inference has it (validation, tokenizer, overloaded, unhealthy,
    backend), and `unauthorized` and `not_found`, which it lacks.
    """

    def __init__(
        self, status: int, error_type: str, error: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, "error_type": error_type}
        self.headers = headers or {}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str | None = Field(
        None, description="which of the server's models; the first unless it is given"
    )


Body = TypeVar("Body", bound=_Body)


class Parameters(BaseModel):
    """What InferenceClient.text_classification may ask for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    function_to_apply: Literal["softmax", "none"] | None = Field(
        None, description="none: logits instead of probabilities"
    )
    top_k: int | None = Field(None, ge=1, description="only so many labels, the best first")


# Written out: a reference into the model's own definitions leads nowhere in the server's schema.
PARAMETERS = {**Parameters.model_json_schema(), "type": ["object", "null"]}


class PredictBody(_Body):
    """The body of /predict."""

    inputs: Annotated[Any, WithJsonSchema({"anyOf": [ONE, MANY, NESTED]})] = Field(
        examples=["a good film, warm and funny", [["a good film"], ["a bad film"]]]
    )
    raw_scores: bool = Field(False, description="logits instead of probabilities")
    truncate: bool | None = Field(
        None, description="false: refuse texts that are longer than the model reads"
    )
    truncation_direction: Literal["right", "Right"] | None = Field(
        None, description="as text-embeddings-inference takes it; texts are cut at their end"
    )
    parameters: Annotated[Parameters | None, WithJsonSchema(PARAMETERS)] = Field(
        None,
        description="as huggingface_hub's InferenceClient sends them; with them the answer is a "
        "list for each text, also for a single one",
    )


class SentimentBody(_Body):
    """The body of /sentiment-analyze: `text` or `texts`, either of them one text or a list."""

    text: Annotated[Any, WithJsonSchema({"anyOf": [ONE, MANY]})] = Field(
        None, examples=["a good film, warm and funny"]
    )
    texts: Annotated[Any, WithJsonSchema({"anyOf": [ONE, MANY]})] = Field(None)


class Prediction(BaseModel):
    """A label with its probability, or its logit where raw scores are asked for."""

    score: float
    label: str


class Sentiment(BaseModel):
    """The best label, its probability, and the probabilities of all labels in their order."""

    label: str
    confidence: float
    probabilities: dict[str, float]


class ErrorBody(BaseModel):
    """Why a request was not answered."""

    error: str
    error_type: str


def parse(content: bytes, kind: type[Body], limits: Limits) -> Body:
    """A request's body. RefusedError 400 where it is no JSON, 422 where it is something else."""
    _refuse_many_values(content, max(MOST_VALUES, 4 * limits.items))
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        raise RefusedError(400, "validation", f"the body is no JSON: {reason}") from None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        message = {
            "missing": "is missing",
            "extra_forbidden": f"is not known; there is {', '.join(kind.model_fields)}",
            "model_type": "must be an object",
            "invalid_key": "a key of it is not known",
            "string_unicode": "a name in it is not valid text",
        }.get(first["type"], first["msg"])
        raise RefusedError(422, "validation", _printable(f"{where}: {message}")) from None


def _refuse_many_values(content: bytes, most: int) -> None:
    """RefusedError 422 for what would take long to read; marks inside texts do not count."""
    if _count_marks(content) > most and _count_marks(JSON_TEXT.sub(b"", content)) > most:
        raise _invalid(f"the body: holds more than {most:,} values; send fewer at a time")


def _count_marks(content: bytes) -> int:
    return sum(content.count(mark) for mark in MARKS)


def predict_texts(inputs: Any, limits: Limits) -> tuple[list[str], bool]:
    """The texts of /predict, and whether it was a single one, which is answered without a list.

    A list of lists is a batch as text-embeddings-inference takes it; so is a plain list, as a
    pipeline of transformers takes it. Pairs, which a plain list of two means there, have no meaning
    for these models.
    """
    if isinstance(inputs, list) and inputs and all(isinstance(item, list) for item in inputs):
        for index, item in enumerate(inputs):
            if len(item) != 1:
                raise _invalid(f"inputs[{index}]: must hold one text; it holds {len(item)}")
        inputs = [item[0] for item in inputs]
    return read_texts(inputs, "inputs", limits)


def sentiment_texts(body: SentimentBody, limits: Limits) -> tuple[list[str], bool]:
    """The texts of /sentiment-analyze, and whether it was a single one."""
    given = [name for name in ("text", "texts") if getattr(body, name) is not None]
    if len(given) != 1:
        raise _invalid("text: give one of text and texts, with a text or a list of texts")
    return read_texts(getattr(body, given[0]), given[0], limits)


def read_texts(value: Any, where: str, limits: Limits) -> tuple[list[str], bool]:
    """The texts of a string or a list, and whether it was a string. RefusedError 422 otherwise."""
    if isinstance(value, str):
        _check_text(value, where, limits)
        return [value], True
    if not isinstance(value, list):
        raise _invalid(f"{where}: must be a text or a list of texts, not {_json_name(value)}")
    if not value:
        raise _invalid(f"{where}: holds no text")
    if len(value) > limits.items:
        raise _invalid(
            f"{where}: holds {counted(len(value), 'text')}; at most {limits.items} go together"
        )
    for index, item in enumerate(value):
        _check_text(item, f"{where}[{index}]", limits)
    return value, False


def _check_text(text: Any, where: str, limits: Limits) -> None:
    if not isinstance(text, str):
        raise _invalid(f"{where}: must be a text, not {_json_name(text)}")
    if len(text) > limits.text_chars:
        raise _invalid(
            f"{where}: has {len(text):,} characters; at most {limits.text_chars:,} are read"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"{where}: holds half of a surrogate pair; it is not valid text"
        raise RefusedError(422, "tokenizer", message) from None


def _invalid(message: str) -> RefusedError:
    return RefusedError(422, "validation", message)


def _printable(message: str) -> str:
    """Keys are the caller's: they may hold anything, in any length."""
    return message.encode("utf-8", "backslashreplace").decode()[:500]


def _json_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
