"""An ONNX artifact in memory: a session of ONNX Runtime and its tokenizer, without torch.

The file says itself what it needs besides the graph, in its metadata under `textassay`. An ONNX
file of somebody else's is read with the config.json and tokenizer.json beside it.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from textassay.artifacts.onnx_files import INT8_FILE, ONNX, ONNX_FILE, ONNX_INT8, onnx_file
from textassay.artifacts.onnx_foreign import (
    Company,
    UnpaddedFeed,
    read_inputs,
    refuse_outputs,
    refuse_shape,
    rows_at_once,
)
from textassay.artifacts.onnx_session import LOGITS, Feed, PaddedFeed, open_session, run_batches
from textassay.data.labels import LabelMap
from textassay.data.plain_tokenizer import PlainTokenizer
from textassay.data.prompt import Prompt
from textassay.data.token_ids import refuse_unknown_tokens
from textassay.errors import GateError, first_line
from textassay.files import parse_json, sha256_file
from textassay.links import refuse_links
from textassay.threads import usable_cpus

if TYPE_CHECKING:
    from textassay.models.source import Source

METADATA = "textassay"


@dataclass(frozen=True, kw_only=True)
class OnnxSettings:
    """What a predictor must know beside the graph; `quantization` is None for floating point.

    `vocabulary`: how many tokens the graph has embeddings for; None where that is not known.
    """

    labels: LabelMap
    max_length: int
    pad_id: int
    prompt: Prompt | None
    temperature: float
    quantization: dict[str, Any] | None
    truncation_side: str
    vocabulary: int | None = None
    is_foreign: bool = False


class OnnxModel:
    """A classifier in ONNX. Safe to use from several threads.

    `threads` batches are computed at a time, each by one thread, which is faster than several
    threads for one batch; as many as there are CPUs where it is None.
    """

    # What others look for in an artifact, and in a torch model: an adapter's base, its config.
    base: "Source | None" = None
    config = None

    def __init__(self, folder: Path, threads: int | None = None, device: str = "cpu") -> None:
        refuse_links(folder)
        self.file = onnx_file(folder)
        self.kind = ONNX_INT8 if self.file.name == INT8_FILE else ONNX
        self._session = open_session(self.file, device)
        self._pool = ThreadPoolExecutor(threads or usable_cpus())
        company = Company.read(folder)
        self.settings = _settings(folder, self.file, self._session, company)
        self._tokenizer = _tokenizer(folder, self.settings)
        self._feed = self._find_feed(company)
        if self.settings.is_foreign:
            self._try_it()

    @property
    def labels(self) -> LabelMap:
        """The labels in the order of the logits."""
        return self.settings.labels

    @property
    def max_length(self) -> int:
        """Tokens that a text is cut to."""
        return self.settings.max_length

    @property
    def temperature(self) -> float:
        """What logits are divided by to be calibrated."""
        return self.settings.temperature

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, prompt included, cut to `max_length`.

        Raises DataError for a text with a token that the graph does not have.
        """
        found = self._tokenizer.ids(texts)
        self.refuse_unknown_tokens(found)
        return found

    def refuse_unknown_tokens(self, input_ids: Sequence[Sequence[int]]) -> None:
        """Raise DataError for a text with a token that the graph does not have."""
        rows = self.settings.vocabulary
        if rows is not None and len(self._tokenizer) > rows:
            refuse_unknown_tokens(input_ids, rows, self._tokenizer.spell)

    def logits(
        self,
        input_ids: Sequence[Sequence[int]],
        batch_size: int | None = None,
        device: Any = None,
    ) -> np.ndarray:
        """Logits of shape [rows, labels] in fp32, before the temperature, in the order of the rows.

        Rows of similar length go together: `batch_size` of them, or as many as make a good batch.
        `device` is where other artifacts compute; a session stays where it was opened.
        """
        self.refuse_unknown_tokens(input_ids)
        try:
            return run_batches(self._session, input_ids, self._feed, batch_size, self._pool)
        except GateError as error:
            raise GateError(f"{self.file}: {error}") from None

    def _find_feed(self, company: Company) -> Feed:
        if not self.settings.is_foreign:
            return PaddedFeed(self.settings.pad_id)
        return UnpaddedFeed(
            read_inputs(self.file, self._session),
            company.first_position,
            self._tokenizer.segments if company.has_segments else lambda length: [0] * length,
            rows_at_once(self._session),
        )

    def _try_it(self) -> None:
        """Answer two short texts. GateError where somebody else's graph cannot."""
        logits = self.logits(self.ids([".", "."]))
        refuse_shape(self.file, logits.shape, len(self.labels))


def _settings(folder: Path, file: Path, session: Any, company: Company) -> OnnxSettings:
    told = session.get_modelmeta().custom_metadata_map.get(METADATA)
    if told is None:
        settings = _settings_of_others(folder, file, company)
        refuse_outputs(file, session, len(settings.labels))
        return settings
    try:
        content = parse_json(told)
        settings = OnnxSettings(
            labels=LabelMap(tuple(content["labels"])),
            max_length=int(content["max_length"]),
            pad_id=int(content["pad_token_id"]),
            prompt=Prompt(**content["prompt"]) if content["prompt"] else None,
            temperature=float(content["temperature"]),
            quantization=content["quantization"],
            # Exports of older versions do not say it; their tokenizer does.
            truncation_side=content.get("truncation_side", company.truncation_side),
            vocabulary=content.get("vocabulary"),
        )
        tokenizer = content["tokenizer"]
    except (ValueError, KeyError, TypeError):
        raise GateError(f"{file}: its metadata are not what an export writes.") from None
    if LOGITS not in {one.name for one in session.get_outputs()}:
        raise GateError(f"{file}: has no output called {LOGITS}; it was changed.")
    if company.config and company.labels(file) != settings.labels.names:
        raise GateError(
            f"{folder / 'config.json'}: says {list(company.labels(file))} where {file.name} says "
            f"{list(settings.labels.names)}; labels were swapped."
        )
    path = folder / "tokenizer.json"
    if path.is_file() and sha256_file(path) != tokenizer:
        raise GateError(f"{path}: is not the tokenizer that {file.name} was made with.")
    return settings


def _settings_of_others(folder: Path, file: Path, company: Company) -> OnnxSettings:
    if not company.config:
        raise GateError(f"{file}: no config.json is beside it, so its labels are not known.")
    return OnnxSettings(
        labels=LabelMap(company.labels(file)),
        max_length=company.max_length,
        pad_id=_id_of_nothing(folder, company),
        prompt=None,
        temperature=1.0,
        quantization={"mode": "unknown"} if file.name != ONNX_FILE else None,
        truncation_side=company.truncation_side,
        is_foreign=True,
    )


def _id_of_nothing(folder: Path, company: Company) -> int:
    """What an empty text is read as, where the tokenizer adds no token of its own."""
    with _readable_tokenizer(folder) as path:
        tokenizer = Tokenizer.from_file(str(path))
    known = (tokenizer.token_to_id(token) for token in company.special_tokens)
    return next((number for number in known if number is not None), 0)


def _tokenizer(folder: Path, settings: OnnxSettings) -> PlainTokenizer:
    with _readable_tokenizer(folder) as path:
        return PlainTokenizer(
            path, settings.pad_id, settings.max_length, settings.prompt, settings.truncation_side
        )


@contextmanager
def _readable_tokenizer(folder: Path) -> Iterator[Path]:
    """A folder's tokenizer.json. GateError where it is missing, or the block cannot read it."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise GateError(f"{folder}: tokenizer.json is missing, so no text can be read.")
    try:
        yield path
    except Exception as error:  # the library raises a bare Exception
        raise GateError(f"{path}: is no tokenizer ({first_line(error)[:200]}).") from None
