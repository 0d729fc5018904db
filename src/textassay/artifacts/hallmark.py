"""The hallmark: what an artifact is made of, and a few rows whose logits it must reproduce.

`python -m textassay.artifacts.hallmark DIR` verifies an artifact in a fresh process. A hallmark
proves integrity (these are the files that were stamped, and they still compute the same), not who
made them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from textassay.artifacts.fresh_process import run_in_fresh_process
from textassay.artifacts.hallmark_fields import VERSION, find_odd_field
from textassay.artifacts.label_config import label_names
from textassay.artifacts.onnx_files import ONNX_INT8, onnx_kind
from textassay.config.user_path import UserPath
from textassay.console import counted, reports_errors, tell
from textassay.errors import GateError, UsageError
from textassay.files import JsonError, read_json, sha256_file, write_json
from textassay.links import entries_below, is_own_file, refuse_link, refuse_links
from textassay.masking import mask_within
from textassay.models.processor import int8_flags

if TYPE_CHECKING:
    from textassay.artifacts.kinds import Loaded
    from textassay.models.source import Source

FILE = "hallmark.json"
# fp32 on two CPUs differs in the order of sums, about 1e-5; a broken artifact by 0.1 and more.
TOLERANCE = 0.001
# A base in 4 bits is multiplied in bf16, whose sums differ by about 0.01 between kernels. In INT8 a
# difference of 1e-6 can become a whole step of the rounding.
TOLERANCE_QUANTIZED = 0.05
# Another generation of CPUs rounds INT8 in another way: there labels have to agree, but of rows
# whose two best logits are nearer than this.
TOO_CLOSE_TO_CALL = 0.2


def stamp(
    folder: Path,
    loaded: "Loaded",
    texts: list[str],
    base: dict[str, str],
    data: dict[str, Any],
    made_by: dict[str, Any],
    validation: dict[str, Any],
    made_from: str | None = None,
) -> dict[str, Any]:
    """Write the hallmark of an artifact that is otherwise complete, and return it.

    `loaded` is the artifact as it was read back from disk, never the model that was trained.
    `made_from` is the hash of the hallmark of the artifact that this one was made from.
    """
    refuse_links(folder)
    hallmark = {
        "version": VERSION,
        "kind": loaded.kind,
        "files": _hashes(folder),
        "base": base,
        "labels": list(loaded.labels.names),
        "data": data,
        "made_by": mask_within(made_by),
        "made_from": made_from,
        "probe": {
            "texts": texts,
            "logits": [[round(x, 6) for x in row] for row in probe_logits(loaded, texts).tolist()],
            "tolerance": TOLERANCE_QUANTIZED if loaded.is_quantized else TOLERANCE,
        },
        "validation": validation,
    }
    if loaded.kind == ONNX_INT8:
        hallmark["quantization"] = {**loaded.model.settings.quantization, "cpu": int8_flags()}
    write_json(folder / FILE, hallmark)
    return hallmark


def restamp(
    folder: Path, parent: Path, loaded: "Loaded", validation: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Stamp an artifact that was made from a stamped one: the same base, data, rows, maker.

    `validation` holds its own figures, where it is not the same classifier in another form.
    """
    before = read_hallmark(parent)
    if before is None:
        raise GateError(f"{parent}: carries no hallmark, so nothing made from it can be proved.")
    return stamp(
        folder,
        loaded,
        before["probe"]["texts"],
        before["base"],
        before["data"],
        before["made_by"],
        validation or before["validation"],
        made_from=sha256_file(parent / FILE),
    )


def probe_logits(loaded: Any, texts: list[str]) -> np.ndarray:
    """Logits of shape [texts, labels] in fp32 on the CPU, one text at a time.

    So they depend on nothing but the artifact: not on batch mates, padding or a GPU.
    """
    if not texts:
        return np.empty((0, len(loaded.labels)), dtype=np.float32)
    return loaded.logits(loaded.ids(texts), batch_size=1, device="cpu")


def read_hallmark(folder: Path) -> dict[str, Any] | None:
    """The hallmark of an artifact, every field of its type, or None where it has none.

    Raises GateError for a file of that name which is something else.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    refuse_link(path, folder)
    try:
        content: dict[str, Any] = read_json(path)
    except JsonError as error:
        raise GateError(f"{path}: is not a hallmark ({error.reason}).") from None
    odd = find_odd_field(content)
    if odd:
        raise GateError(f"{path}: is not a hallmark ({odd}).")
    return content


def check_loaded(loaded: Any, hallmark: dict[str, Any], folder: Path) -> None:
    """The cheap part, at every load: kind, labels, and the base by its hash.

    `loaded` is an artifact in memory, in torch or as an `OnnxModel`.
    """
    if loaded.kind != hallmark["kind"]:
        raise GateError(f"{folder}: is of kind {loaded.kind}, stamped as {hallmark['kind']}.")
    if list(loaded.labels.names) != hallmark["labels"]:
        raise GateError(
            f"{folder}: its labels are {list(loaded.labels.names)}, but it was stamped with "
            f"{hallmark['labels']}."
        )
    if loaded.base is not None:
        refuse_other_base(folder, loaded.base, hallmark)


def refuse_other_base(folder: Path, base: "Source", hallmark: dict[str, Any]) -> None:
    """GateError where the weights of an adapter's base are not the stamped ones."""
    found, stamped = base.weights_hash(), str(hallmark["base"].get("weights"))
    if found != stamped:
        raise GateError(
            f"{folder}: the base {base.name} ({base.origin}) has {found[:19]}…, but the adapter "
            f"was trained on {stamped[:19]}…; name the right base."
        )


def check_files(folder: Path, hallmark: dict[str, Any]) -> None:
    """Every stamped file is there with its hash, and nothing was added, no link either."""
    found = _hashes(folder)
    for name, stamped in hallmark["files"].items():
        if name not in found:
            raise GateError(f"{folder}: {name} is missing; it was there when it was stamped.")
        if found[name] is None:
            raise GateError(f"{folder}: {name} was replaced by a link after it was stamped.")
        if found[name] != stamped:
            raise GateError(
                f"{folder}: {name} was changed after it was stamped"
                f"{_label_change(folder / name, hallmark['labels']) or ' (its hash differs).'}"
            )
    added = sorted(set(found) - set(hallmark["files"]))
    if added:
        what = "" if found[added[0]] else ", and is a link or no file"
        raise GateError(f"{folder}: {added[0]} was added after it was stamped{what}; take it out.")
    refuse_links(folder)


def _label_change(file: Path, stamped: list[str]) -> str | None:
    """What a changed file says of the labels now; None where it is about something else."""
    if file.name not in ("config.json", "label_mapping.json"):
        return None
    try:
        names = list(label_names({"id2label": read_json(file)["id2label"]}))
    except (ValueError, KeyError, TypeError):
        return None
    if names == stamped:
        return None
    if sorted(names) != sorted(stamped):
        named = counted(len(names), "label")
        return f": it names {named} that are not the {len(stamped)} stamped ones."
    first = next(index for index, name in enumerate(names) if name != stamped[index])
    return (
        f": labels were swapped; label {first} is {names[first]!r}, and was {stamped[first]!r} "
        "when it was stamped."
    )


def verify(folder: Path, base: str | None = None) -> str:
    """Check hashes, labels, base and the probe's logits; a sentence on what was found.

    Raises GateError with the reason.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such directory.")
    hallmark = read_hallmark(folder)
    if hallmark is None:
        raise GateError(f"{folder}: carries no hallmark, so there is nothing to hold it to.")
    check_files(folder, hallmark)
    loaded = _load(folder, base)
    check_loaded(loaded, hallmark, folder)
    what = f"{folder}: {loaded.kind}, {counted(len(hallmark['files']), 'file')} as stamped"
    if not hallmark["probe"]["texts"]:
        return f"{what} (no probe rows)"
    return f"{what}, {check_probe(loaded, hallmark, folder)}"


def check_probe(loaded: Any, hallmark: dict[str, Any], folder: Path) -> str:
    """Compute the logits of the probe's rows on the CPU; a sentence on what they show.

    Raises GateError where they are others than the stamped ones.
    """
    probe = hallmark["probe"]
    if not probe["texts"]:
        return "no probe rows"
    found, stamped = probe_logits(loaded, probe["texts"]), np.array(probe["logits"])
    return _compare_probe(folder, found, stamped, hallmark)


def _load(folder: Path, base: str | None) -> Any:
    """An artifact in memory; torch is only imported for one that needs it."""
    if onnx_kind(folder):
        from textassay.artifacts.onnx_model import OnnxModel

        return OnnxModel(folder)
    from textassay.artifacts.kinds import load_artifact

    return load_artifact(folder, base)


def _compare_probe(
    folder: Path, found: np.ndarray, stamped: np.ndarray, hallmark: dict[str, Any]
) -> str:
    """What the probe's logits show. GateError where they are others than the stamped ones."""
    same_shape = found.shape == stamped.shape
    difference = float(np.abs(found - stamped).max()) if same_shape else float("inf")
    tolerance = hallmark["probe"]["tolerance"]
    if difference <= tolerance:
        return f"{counted(len(stamped), 'probe row')} within {difference:.1e}"
    elsewhere = (hallmark.get("quantization") or {}).get("cpu", int8_flags()) != int8_flags()
    if same_shape and elsewhere:
        two = np.sort(stamped, axis=1)[:, -2:]
        clear = two[:, 1] - two[:, 0] > TOO_CLOSE_TO_CALL
        if (found.argmax(1) == stamped.argmax(1))[clear].all():
            return (
                f"{counted(len(stamped), 'probe row')} with the same labels (another kind of CPU: "
                f"logits within {difference:.1e})"
            )
    raise GateError(
        f"{folder}: the logits of its probe rows differ by {difference:.4g} from the stamped "
        f"ones (at most {tolerance} is allowed); it does not compute what it did."
    )


def verify_in_fresh_process(folder: Path, base: str | None = None) -> None:
    """Run `verify` where nothing of this process can help it. Raises GateError with the reason."""
    arguments = [str(folder), *([f"--base_model_path={base}"] if base else [])]
    complaint = "the saved artifact does not hold"
    run_in_fresh_process("textassay.artifacts.hallmark", arguments, complaint)


def _hashes(folder: Path) -> dict[str, str | None]:
    """The hash of everything below a folder but hallmarks, by its name.

    None for a link that leads out of the folder or to a folder, and for what is no file.
    """
    found = {path: is_own_file(path, folder) for path in sorted(entries_below(folder))}
    return {
        str(path.relative_to(folder)): sha256_file(path) if is_own else None
        for path, is_own in found.items()
        if path.name != FILE or not is_own
    }


@click.command()
@click.argument("folder", type=UserPath())
@click.option("--base_model_path", "--base-model-path", help="the adapter's base, where it moved")
@reports_errors
def main(folder: Path, base_model_path: str | None) -> None:
    """Verify the hallmark of the artifact in FOLDER: files, labels, base, logits of the probe."""
    tell(f"verified  {verify(folder, base_model_path)}")


if __name__ == "__main__":
    main()
