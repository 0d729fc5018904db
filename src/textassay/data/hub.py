"""Data sets from the Hugging Face hub."""

from textassay.config.dotenv import hub_is_off
from textassay.console import some
from textassay.data.read import Rows, table_rows
from textassay.errors import DataError, first_line

HUB_TIMEOUT_SECONDS = 10.0
SPLIT_NAMES = {"train": "train", "validation": "validation", "dev": "validation", "test": "test"}


def read_hub(name: str, config: str | None) -> dict[str, list[Rows]]:
    """{split: rows} of a data set on the hub, or in its local cache when offline."""
    import datasets
    from huggingface_hub import HfApi

    offline = hub_is_off()
    try:
        if not offline:  # load_dataset retries for half a minute; this call does not
            HfApi().dataset_info(name, timeout=HUB_TIMEOUT_SECONDS)
        loaded = datasets.load_dataset(name, config)
    except Exception as error:  # the library raises a dozen types, requests' among them
        reason = " HF_HUB_OFFLINE is set." if offline else ""
        first = first_line(error)[:200]
        raise DataError(
            f"{name}: is neither a local path nor a data set that the hub or its local cache gives "
            f"({type(error).__name__}: {first}).{reason} Name a directory with --data_path."
        ) from None
    splits = {}
    for split, rows in loaded.items():
        if split in SPLIT_NAMES:
            table = rows.flatten_indices().data.table
            splits[SPLIT_NAMES[split]] = [table_rows(f"{name} ({split})", table)]
    if "train" not in splits:
        raise DataError(f"{name}: has no train split, only {some(list(loaded))}.")
    return splits
