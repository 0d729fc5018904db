"""Which files of a directory are which split."""

import re
from pathlib import Path

from textassay.data.read import READERS
from textassay.errors import DataError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "dev", "valid", "val", "eval"),
    "test": ("test",),
}
SHARD = re.compile(r"^(?P<split>[A-Za-z]+)-\d{5}-of-\d{5}$")


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
        present = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{folder}: has no file for train (train.csv, .tsv, .json, .jsonl or .parquet); it "
            f"holds {present}. Name files with --train_file, --validation_file and --test_file."
        )
    return found


def _files_of(folder: Path, names: tuple[str, ...]) -> list[Path]:
    whole, shards = [], []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in READERS or path.name.startswith("."):
            continue
        shard = SHARD.match(path.stem)
        if shard and shard["split"].lower() in names:
            shards.append(path)
        elif path.stem.lower() in names:
            whole.append(path)
    if len(whole) > 1 or (whole and shards):
        both = " and ".join(path.name for path in (whole + shards)[:2])
        raise DataError(f"{folder}: {both} both claim to be one split; name the one with a flag.")
    return whole or shards
