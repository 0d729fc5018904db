"""Which files of a directory are which split."""

import re
from pathlib import Path

from textassay.data.read import PACKED, SUFFIXES
from textassay.errors import DataError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "dev", "valid", "val", "eval"),
    "test": ("test",),
}
# `datasets` also puts a hash behind the number of shards.
SHARD = re.compile(r"^(?P<split>[A-Za-z]+)-(?P<number>\d{5})-of-(?P<all>\d{5})(-[0-9a-f]{16})?$")
SHOWN = 8


def find_splits(folder: Path) -> dict[str, list[Path]]:
    """{split: files} of a directory; shards such as `train-00000-of-00002.parquet` in order.

    Looks into `folder` and, where it holds no split itself, into `folder/data`. Raises DataError
    where train is missing or a split stands there twice.
    """
    found: dict[str, list[Path]] = {}
    for split, names in SPLIT_NAMES.items():
        files = _files_of(folder, names)
        if files:
            found[split] = files
    if not found and (folder / "data").is_dir():
        return find_splits(folder / "data")
    if "train" not in found:
        raise DataError(_no_train(folder))
    return found


def _files_of(folder: Path, names: tuple[str, ...]) -> list[Path]:
    whole: list[Path] = []
    shards: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        shard = SHARD.match(path.stem)
        if shard and shard["split"].lower() in names:
            shards.append(path)
        elif path.stem.lower() in names:
            whole.append(path)
    if len(whole) > 1 or (whole and shards):
        both = " and ".join(path.name for path in (whole + shards)[:2])
        raise DataError(f"{folder}: {both} both claim to be one split; name the one with a flag.")
    _refuse_incomplete(folder, shards)
    return whole or shards


def _refuse_incomplete(folder: Path, shards: list[Path]) -> None:
    """DataError unless the shards are all that their names speak of."""
    named = [match for path in shards if (match := SHARD.match(path.stem))]
    counts = {int(match["all"]) for match in named}
    numbers = [int(match["number"]) for match in named]
    if len(counts) > 1 or len(set(numbers)) < len(numbers):
        both = " and ".join(path.name for path in shards[:2])
        raise DataError(f"{folder}: {both} are shards of two copies of one split; remove one copy.")
    missing = sorted(set(range(max(counts, default=0))) - set(numbers))
    if missing:
        raise DataError(
            f"{folder}: holds {len(shards)} of the {max(counts)} shards of {named[0]['split']}; "
            f"number {missing[0]} is the first that is missing. Fetch them all, or name the one to "
            "use with --data_path."
        )


def _no_train(folder: Path) -> str:
    held = sorted(folder.iterdir())
    listed = ", ".join(path.name[:40] for path in held[:SHOWN]) or "nothing"
    packed = next((path for path in held if path.suffix.lower() in PACKED), None)
    advice = "Name files with --train_file, --validation_file and --test_file."
    if packed:
        advice = f"{packed.name[:40]}: {PACKED[packed.suffix.lower()]}."
    return (
        f"{folder}: has no file for train (train.csv, .tsv, .json, .jsonl or .parquet); it holds "
        f"{listed}. {advice}"
    )
