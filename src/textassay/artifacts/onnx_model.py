"""An ONNX artifact in memory: a session of ONNX Runtime and its tokenizer, without torch.

The file says itself what it needs besides the graph, in its metadata under `textassay`. An ONNX
file of somebody else's is read with the config.json and tokenizer.json beside it.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textassay.artifacts.onnx_files import INT8_FILE, ONNX, ONNX_FILE, ONNX_INT8, onnx_file
from textassay.data.labels import LabelMap
from textassay.data.plain_tokenizer import PlainTokenizer
from textassay.data.prompt import Prompt
from textassay.errors import GateError, UsageError, first_line
from textassay.files import read_json, sha256_file
from textassay.threads import usable_cpus

if TYPE_CHECKING:
    from textassay.models.source import Source

METADATA = "textassay"
LONGEST_UNTOLD = 512
# So many tokens, padding included, are computed at once: more does not fit into the CPU's caches.
TOKENS_AT_ONCE = 512
# ONNX Runtime would put these back together to a kernel that is slower on CPUs than its parts.
SLOWER_FUSIONS = ["SkipLayerNormFusion", "EmbedLayerNormFusion"]


@dataclass(frozen=True)
class OnnxSettings:
    """What a predictor must know beside the graph; `quantization` is None for floating point."""

    labels: LabelMap
    max_length: int
    pad_id: int
    prompt: Prompt | None
    temperature: float
    quantization: dict[str, Any] | None


class OnnxModel:
    """A classifier in ONNX. Safe to use from several threads.

    `threads` batches are computed at a time, each by one thread, which is faster than several
    threads for one batch; as many as there are CPUs where it is None.
    """

    # What others look for in an artifact, and in a torch model: an adapter's base, its config.
    base: "Source | None" = None
    config = None

    def __init__(self, folder: Path, threads: int | None = None, device: str = "cpu") -> None:
        self.file = onnx_file(folder)
        self.kind = ONNX_INT8 if self.file.name == INT8_FILE else ONNX
        self._session = open_session(self.file, device)
        self._pool = ThreadPoolExecutor(threads or usable_cpus())
        self.settings = _settings(folder, self.file, self._session)
        self._tokenizer = _tokenizer(folder, self.settings)

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
        """The token ids of each text, prompt included, cut to `max_length`."""
        return self._tokenizer.ids(texts)

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
        pad = self.settings.pad_id
        return run_batches(self._session, input_ids, pad, batch_size, self._pool)


def run_batches(
    session: Any,
    input_ids: Sequence[Sequence[int]],
    pad_id: int,
    batch_size: int | None = None,
    pool: ThreadPoolExecutor | None = None,
) -> np.ndarray:
    """The logits that a session gives for token ids, [rows, labels], in the order of the rows.

    Rows of similar length go together, so that little is padded; batches go to the threads of a
    pool, where there is one.
    """
    parts = list(_batches(input_ids, batch_size))
    run = partial(_run, session, input_ids, pad_id)
    answers = pool.map(run, parts) if pool and len(parts) > 1 else map(run, parts)
    found: list[np.ndarray | None] = [None] * len(input_ids)
    for rows, logits in zip(parts, answers, strict=True):
        for row, one in zip(rows, logits, strict=True):
            found[row] = one
    return np.array(found, dtype=np.float32)


def _batches(input_ids: Sequence[Sequence[int]], batch_size: int | None) -> Iterator[list[int]]:
    """Row numbers, the longest rows first."""
    order = sorted(range(len(input_ids)), key=lambda row: -len(input_ids[row]))
    start = 0
    while start < len(order):
        longest = len(input_ids[order[start]])
        rows = order[start : start + (batch_size or max(1, TOKENS_AT_ONCE // longest))]
        yield rows
        start += len(rows)


def _run(
    session: Any, input_ids: Sequence[Sequence[int]], pad_id: int, numbers: list[int]
) -> np.ndarray:
    rows = [input_ids[number] for number in numbers]
    longest = len(rows[0])
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    feed = {"input_ids": ids, "attention_mask": mask}
    if any(wanted.name == "token_type_ids" for wanted in session.get_inputs()):
        feed["token_type_ids"] = np.zeros_like(ids)
    logits: np.ndarray = session.run(["logits"], feed)[0]
    return logits


def open_session(file: Path, device: str = "cpu") -> Any:
    """A session of ONNX Runtime; each of its runs uses one thread.

    GateError for what is no ONNX file, UsageError where the library is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(
            f"{file}: needs ONNX Runtime, which is not installed; run: "
            "python -m pip install -c constraints.txt -e '.[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    wanted = ["CPUExecutionProvider"]
    if device == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise UsageError(
                "--device cuda: this build of ONNX Runtime has no CUDA (onnxruntime-gpu has); "
                "use --device cpu, or the torch artifact."
            )
        wanted = ["CUDAExecutionProvider", *wanted]
    try:
        return onnxruntime.InferenceSession(
            str(file), options, providers=wanted, disabled_optimizers=SLOWER_FUSIONS
        )
    except Exception as error:  # the library's classes are not public
        raise GateError(
            f"{file}: is no ONNX file that can be run ({first_line(error)[:300]}); it is broken or "
            "cut off."
        ) from None


def _settings(folder: Path, file: Path, session: Any) -> OnnxSettings:
    outputs = {one.name for one in session.get_outputs()}
    if "logits" not in outputs:
        raise GateError(f"{file}: has no output called logits; it is no classifier.")
    told = session.get_modelmeta().custom_metadata_map.get(METADATA)
    config = folder / "config.json"
    beside = read_json(config) if config.is_file() else {}
    if told is None:
        return _settings_of_others(file, beside)
    try:
        content = json.loads(told)
        settings = OnnxSettings(
            LabelMap(tuple(content["labels"])),
            int(content["max_length"]),
            int(content["pad_token_id"]),
            Prompt(**content["prompt"]) if content["prompt"] else None,
            float(content["temperature"]),
            content["quantization"],
        )
        tokenizer = content["tokenizer"]
    except (ValueError, KeyError, TypeError):
        raise GateError(f"{file}: its metadata are not what an export writes.") from None
    if beside and _names(file, beside) != settings.labels.names:
        raise GateError(
            f"{config}: says {list(_names(file, beside))} where {file.name} says "
            f"{list(settings.labels.names)}; labels were swapped."
        )
    path = folder / "tokenizer.json"
    if path.is_file() and sha256_file(path) != tokenizer:
        raise GateError(f"{path}: is not the tokenizer that {file.name} was made with.")
    return settings


def _settings_of_others(file: Path, config: dict[str, Any]) -> OnnxSettings:
    if not config:
        raise GateError(f"{file}: no config.json is beside it, so its labels are not known.")
    own = file.parent / "tokenizer_config.json"
    longest = (read_json(own) if own.is_file() else {}).get("model_max_length") or LONGEST_UNTOLD
    positions = config.get("max_position_embeddings") or LONGEST_UNTOLD
    pad = config.get("pad_token_id")
    return OnnxSettings(
        LabelMap(_names(file, config)),
        int(min(longest, positions, LONGEST_UNTOLD)),
        int(pad or 0),
        None,
        1.0,
        {"mode": "unknown"} if file.name != ONNX_FILE else None,
    )


def _names(file: Path, config: dict[str, Any]) -> tuple[str, ...]:
    try:
        by_id = {int(key): str(name) for key, name in config["id2label"].items()}
        return tuple(by_id[index] for index in range(len(by_id)))
    except (KeyError, ValueError, AttributeError):
        raise GateError(f"{file}: the config.json beside it has no whole id2label.") from None


def _tokenizer(folder: Path, settings: OnnxSettings) -> PlainTokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise GateError(f"{folder}: tokenizer.json is missing, so no text can be read.")
    try:
        return PlainTokenizer(path, settings.pad_id, settings.max_length, settings.prompt)
    except Exception as error:  # the library raises a bare Exception
        raise GateError(f"{path}: is no tokenizer ({first_line(error)[:200]}).") from None
