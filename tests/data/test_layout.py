"""Which files of a directory are which split."""

import pytest

from textassay.data.layout import find_splits
from textassay.errors import DataError


def names_in(folder, *files):
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = find_splits(folder)
    return {split: [path.name for path in paths] for split, paths in found.items()}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet", "CSV"])
@pytest.mark.parametrize("name", ["validation", "dev", "valid", "val", "eval", "Dev"])
def test_the_usual_names_are_known_in_every_format(name, suffix, tmp_path):
    files = [f"train.{suffix}", f"{name}.{suffix}", f"test.{suffix}"]
    assert names_in(tmp_path, *files) == {
        "train": [files[0]],
        "validation": [files[1]],
        "test": [files[2]],
    }


def test_formats_may_differ_and_only_train_must_be_there(tmp_path):
    assert names_in(tmp_path, "train.csv", "dev.parquet") == {
        "train": ["train.csv"],
        "validation": ["dev.parquet"],
    }


def test_shards_are_one_split_in_the_order_of_their_numbers(tmp_path):
    shards = [f"train-{number:05d}-of-00012.parquet" for number in range(12)]
    found = names_in(tmp_path, *reversed(shards), "test-00000-of-00001.parquet")
    assert found == {"train": shards, "test": ["test-00000-of-00001.parquet"]}


def test_the_folder_data_is_looked_into_where_the_folder_itself_has_no_split(tmp_path):
    assert names_in(tmp_path, "README.md", "data/train.csv") == {"train": ["train.csv"]}


def test_the_folder_data_is_left_alone_where_the_folder_itself_has_splits(tmp_path):
    found = names_in(tmp_path, "train.csv", "data/train.csv", "data/test.csv")
    assert found == {"train": ["train.csv"]}


@pytest.mark.parametrize(
    "other", ["train.txt", ".train.csv", "train.csv.bak", "trainer.csv", "my_train.csv"]
)
def test_files_that_only_look_like_a_split_are_left_alone(other, tmp_path):
    assert names_in(tmp_path, "train.csv", other) == {"train": ["train.csv"]}


@pytest.mark.parametrize("files", [[], ["test.csv"], ["readme.md", "dev.tsv"]])
def test_a_folder_without_train_is_refused_with_what_it_holds(files, tmp_path):
    with pytest.raises(DataError, match="no file for train") as caught:
        names_in(tmp_path, *files)
    assert str(tmp_path) in str(caught.value)
    assert ", ".join(sorted(files)) in str(caught.value)


@pytest.mark.parametrize(
    "files",
    [
        ["train.csv", "train.json"],
        ["train.csv", "training.csv"],
        ["train.csv", "dev.csv", "validation.csv"],
        ["train.parquet", "train-00000-of-00001.parquet"],
    ],
    ids=" ".join,
)
def test_two_files_that_claim_to_be_one_split_are_refused_by_name(files, tmp_path):
    with pytest.raises(DataError) as caught:
        names_in(tmp_path, *files)
    assert all(name in str(caught.value) for name in files[-2:])


@pytest.mark.parametrize(
    "files",
    [
        ["train-00000-of-00005.parquet"],
        ["train-00001-of-00002.parquet"],
        ["train-00000-of-00001.csv", "test-00001-of-00003.csv", "test-00000-of-00003.csv"],
        ["train-00000-of-00002-0123456789abcdef.parquet"],
    ],
    ids=" ".join,
)
def test_shards_that_are_missing_are_named(files, tmp_path):
    with pytest.raises(DataError, match=r"number \d is the first that is missing"):
        names_in(tmp_path, *files)


def test_shards_with_a_hash_are_a_split(tmp_path):
    shards = [f"train-0000{n}-of-00002-{'0123456789abcdef'}.parquet" for n in range(2)]
    assert names_in(tmp_path, *shards) == {"train": shards}


def test_shards_of_two_copies_are_refused(tmp_path):
    with pytest.raises(DataError, match="two copies of one split"):
        names_in(tmp_path, "train-00000-of-00001.csv", "train-00000-of-00002.csv")


@pytest.mark.parametrize("packed", ["train.csv.gz", "data.zip", "reviews.xlsx"])
def test_a_folder_of_packed_files_says_how_to_unpack_them(packed, tmp_path):
    with pytest.raises(DataError, match=r"unpack it first|save the sheet") as caught:
        names_in(tmp_path, packed)
    assert packed in str(caught.value) and "--train_file" not in str(caught.value)
