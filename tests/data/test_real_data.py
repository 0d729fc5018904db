"""The public data sets, read to the last row and with what is wrong with them."""

import functools
import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from textassay.config.schema import DataSection
from textassay.data.catalog import read_entry
from textassay.data.load import load_dataset
from textassay.data.options import ReadOptions
from textassay.data.read import read_file
from textassay.data.words import normalized
from textassay.files import project_root

pytestmark = pytest.mark.real_data

# Rows, as the README of the folder counts them.
TABLES = {
    "chnsenticorp/train.tsv": 9_249, "chnsenticorp/dev.tsv": 1_160,
    "sst2/train.tsv": 6_913, "sst2/dev.tsv": 872,
    "smp2020_ewect_usual/train.tsv": 27_450, "smp2020_ewect_usual/dev.tsv": 1_981,
    "weibo_senti_100k/train.csv": 28_931,
    "sst5/train.csv": 8_537, "sst5/dev.csv": 1_101,
}  # fmt: skip
HEADLESS = {"goemotions/train.tsv": 43_102, "goemotions/dev.tsv": 5_391}
ITEMS = {
    "r8/train.jsonl": 5_479,
    "sst2_glue/train.parquet": 67_327, "sst2_glue/validation.parquet": 872,
    "goemotions/train_single.parquet": 36_031, "goemotions/dev_single.parquet": 4_516,
}  # fmt: skip
UNQUOTED = [name for name in TABLES if name.endswith(".tsv")]
# {set: (rows of train before test is cut off it, rows of validation, labels)}
SETS = {
    "chnsenticorp": (9_249, 1_160, 2), "sst2": (6_913, 872, 2), "sst2_glue": (67_327, 872, 2),
    "sst5": (8_537, 1_101, 5), "r8": (5_479, None, 8), "weibo_senti_100k": (28_931, None, 2),
    "smp2020_ewect_usual": (27_450, 1_981, 6), "goemotions": (36_031, 4_516, 28),
}  # fmt: skip
# What follows from the README's table: {set: {label: rows of train}}
BALANCE = {
    "sst2": {"Negative": 3_308, "Positive": 3_605},
    "sst5": {"very negative": 1_092, "negative": 2_216, "neutral": 1_624, "positive": 2_317,
             "very positive": 1_288},
    "r8": {"earn": 2_840, "acq": 1_596, "crude": 253, "trade": 251, "money-fx": 206,
           "interest": 184, "ship": 108, "grain": 41},
}  # fmt: skip


@functools.cache
def load(real_data, name):
    return load_dataset(DataSection(name=name, path=str(real_data / name)))


@functools.cache
def texts_of(real_data):
    """The normalised texts of all public sets."""
    public = set()
    for file in [*TABLES, *ITEMS]:
        columns = read_file(real_data / file).columns
        [text] = columns.keys() & {"text", "sentence", "text_a", "review"}
        public |= {normalized(text) for text in columns[text].to_pylist()}
    return public


def lines_of(path):
    return path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_to_the_last_row(name, real_data):
    rows = read_file(real_data / name)
    lines = lines_of(real_data / name)
    assert len(rows) == TABLES[name] == len(lines) - 1
    assert rows.bad == []
    assert rows.lines.to_pylist() == list(range(2, len(lines) + 1))


@pytest.mark.parametrize("name", HEADLESS)
def test_a_table_without_a_header_is_read_to_the_last_row(name, real_data):
    rows = read_file(real_data / name, ReadOptions(column_names=["text", "labels", "id"]))
    assert len(rows) == HEADLESS[name] == len(lines_of(real_data / name))
    assert rows.bad == []


@pytest.mark.parametrize("name", ITEMS)
def test_json_lines_and_parquet_are_read_to_the_last_row(name, real_data):
    path = real_data / name
    counted = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else len(lines_of(path))
    assert len(read_file(path)) == ITEMS[name] == counted


@pytest.mark.parametrize("name", UNQUOTED)
def test_every_field_of_an_unquoted_file_stands_as_in_its_line(name, real_data):
    rows = read_file(real_data / name)
    header, *lines = [line.rstrip("\r").split("\t") for line in lines_of(real_data / name)]
    for position, column in enumerate(header):
        assert rows.columns[column].to_pylist() == [fields[position] for fields in lines]


def test_the_fields_of_a_json_lines_file_stand_as_in_its_lines(real_data):
    rows = read_file(real_data / "r8" / "train.jsonl")
    items = [json.loads(line) for line in lines_of(real_data / "r8" / "train.jsonl")]
    assert rows.columns["text"].to_pylist() == [item["text"] for item in items]
    assert rows.columns["label"].to_pylist() == [item["label"] for item in items]


@pytest.mark.parametrize("name", SETS)
def test_a_known_set_is_loaded_whole(name, real_data):
    dataset = load(real_data, name)
    rows = {split: len(table) for split, table in dataset.splits.items()}
    train, validation, labels = SETS[name]
    cut_off = rows["test"] + (0 if validation else rows["validation"])
    assert rows["train"] + cut_off == train
    assert validation is None or rows["validation"] == validation
    assert len(dataset.labels) == labels
    assert dataset.labels.names == tuple(read_entry(name).labels)
    for table in dataset.splits.values():
        assert set(table["label"].to_pylist()) == set(dataset.labels.names)


@pytest.mark.parametrize("name", BALANCE)
def test_the_labels_mean_what_the_source_says(name, real_data):
    dataset = load(real_data, name)
    parts = [dataset.splits["train"], dataset.splits["test"]]
    if SETS[name][1] is None:
        parts.append(dataset.splits["validation"])
    found = Counter(label for part in parts for label in part["label"].to_pylist())
    assert found == BALANCE[name]


def test_the_overlap_of_chnsenticorp_is_counted(real_data):
    notes = load(real_data, "chnsenticorp").notes
    expected = "overlap: 337 of 1,160 validation rows have a text that also stands in train"
    assert expected in notes


@pytest.mark.parametrize("name", SETS)
def test_what_is_cut_off_has_no_text_that_stands_elsewhere(name, real_data):
    splits = load(real_data, name).splits
    texts = {split: {normalized(t) for t in splits[split]["text"].to_pylist()} for split in splits}
    assert not texts["test"] & texts["train"]
    assert not texts["test"] & texts["validation"]
    if SETS[name][1] is None:
        assert not texts["validation"] & texts["train"]


# A phrase of three words may come to two people's minds.
@pytest.mark.parametrize(("name", "phrase"), [("sentiment5_en", 16), ("emotion19_zh", 6)])
def test_no_row_of_a_public_set_stands_in_our_samples(name, phrase, real_data):
    ours = read_file(project_root() / "data" / "samples" / f"{name}.csv").columns["text"]
    sentences = {text for text in map(normalized, ours.to_pylist()) if len(text) > phrase}
    assert len(sentences) > 0.9 * len(ours)
    assert len(texts_of(real_data)) > 150_000
    assert sentences & texts_of(real_data) == set()
