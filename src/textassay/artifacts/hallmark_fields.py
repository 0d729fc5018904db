"""What a hallmark consists of: a file of somebody else's may hold anything instead."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from textassay.console import counted

VERSION = 1
# More than any artifact of ours is allowed; with more every probe would hold.
LARGEST_TOLERANCE = 0.05

Logits = list[FiniteFloat]


class _Fields(BaseModel):
    """Fields of exactly these types; others may stand beside them."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Base(_Fields):
    name: str | None = None
    weights: str | None = None


class _Data(_Fields):
    name: str | None = None
    rows: int | None = None
    fingerprint: str | None = None


class _MadeBy(_Fields):
    command: str | None = None
    config: str | None = None


class _Probe(_Fields):
    texts: list[str]
    logits: list[Logits]
    tolerance: Annotated[float, Field(ge=0, le=LARGEST_TOLERANCE)]


class _Quantization(_Fields):
    cpu: list[str] = []


class _Hallmark(_Fields):
    version: int
    kind: str
    files: dict[str, str]
    labels: list[str]
    base: _Base
    data: _Data
    made_by: _MadeBy
    made_from: str | None = None
    probe: _Probe
    validation: dict[str, Any]
    quantization: _Quantization | None = None


def find_odd_field(content: Any) -> str | None:
    """What is wrong with the content of a hallmark.json, and where; None for one of ours."""
    try:
        hallmark = _Hallmark.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:100]
        return f"{where}: {first['msg'].lower()}" if where else "it is no object"
    if hallmark.version > VERSION:
        return f"its version is {hallmark.version}, and this textassay knows {VERSION}; update it"
    probe, labels = hallmark.probe, len(hallmark.labels)
    if len(probe.logits) != len(probe.texts):
        texts, rows = counted(len(probe.texts), "text"), counted(len(probe.logits), "row")
        return f"probe: {texts} and {rows} of logits"
    if any(len(row) != labels for row in probe.logits):
        return f"probe.logits: a row has not one logit for each of {counted(labels, 'label')}"
    return None
