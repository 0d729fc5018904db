"""Known data sets: every entry can be read, and says what its labels are called."""

import pytest
import yaml

from textassay.config.schema import DataSection
from textassay.data.catalog import read_entry
from textassay.data.load import load_dataset
from textassay.data.read import read_file
from textassay.errors import UsageError
from textassay.files import project_root

NAMES = sorted(path.stem for path in (project_root() / "data" / "catalog").glob("*.yaml"))


def test_the_catalog_has_the_sets_that_the_guides_speak_of():
    assert set(NAMES) >= {"sst2", "sst5", "r8", "chnsenticorp", "goemotions", "yelp_review_full"}


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_is_complete(name):
    entry = read_entry(name)
    assert entry.name == name
    assert entry.title and entry.licence and entry.language in ("en", "zh")
    assert len(set(entry.labels)) == len(entry.labels) >= 2
    for form in filter(None, (entry.local, entry.hub)):
        meant = entry.values(form)
        assert (meant is None) == entry.open_labels
        if meant is not None:
            assert sorted(meant.values()) == sorted(entry.labels)
    assert entry.hub is None or entry.hub.path.count("/") == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_set_that_comes_along_is_where_the_entry_says(name):
    entry = read_entry(name)
    if entry.local.path is None:
        assert entry.hub or name == "smp2020_ewect_usual"
    else:
        rows = read_file(project_root() / entry.local.path)
        assert set(rows.columns["label"].to_pylist()) == set(entry.labels)


def test_labels_that_are_numbers_in_the_file_mean_the_names_at_their_positions():
    entry = read_entry("sst2")
    assert entry.values(entry.local) == {"0": "Negative", "1": "Positive"}


def test_an_entry_may_say_itself_what_its_values_mean():
    entry = read_entry("sst5")
    assert entry.values(entry.local) == dict(zip("12345", entry.labels, strict=True))
    assert entry.values(entry.hub) == dict(zip("01234", entry.labels, strict=True))


def test_an_unknown_set_is_answered_with_the_nearest_one():
    with pytest.raises(UsageError, match=r"did you mean sst2\?"):
        read_entry("sst-2")


def test_a_name_reads_no_file_outside_of_the_catalog():
    with pytest.raises(UsageError, match=r"is not in data/catalog"):
        read_entry("../../jobs/quickstart")


def test_a_local_copy_is_found_under_the_folder_that_the_environment_names(tmp_path, monkeypatch):
    entry = read_entry("sst2")
    monkeypatch.delenv("TEXTASSAY_DATA_DIR", raising=False)
    assert entry.local_folder() is None
    monkeypatch.setenv("TEXTASSAY_DATA_DIR", str(tmp_path))
    assert entry.local_folder() is None
    (tmp_path / "sst2").mkdir()
    assert entry.local_folder() == tmp_path / "sst2"


def test_a_new_set_is_one_file(write, tmp_path, monkeypatch):
    entry = {
        "title": "Doors", "language": "en", "licence": "MIT", "labels": ["open", "shut"],
        "local": {"path": "doors.csv", "text": "says", "label": "is",
                  "values": {1: "open", 2: "shut"}},
    }  # fmt: skip
    write("data/catalog/doors.yaml", yaml.safe_dump(entry))
    write("doors.csv", "says,is\n" + "".join(f"door {n},{n % 2 + 1}\n" for n in range(20)))
    monkeypatch.setenv("TEXTASSAY_HOME", str(tmp_path))
    dataset = load_dataset(DataSection(name="doors"))
    assert dataset.labels.names == ("open", "shut")
    rows = dataset.splits["train"].to_pylist()
    assert {(int(r["text"].split()[1]) % 2, r["label"]) for r in rows} == {(0, "open"), (1, "shut")}


def test_a_set_with_open_labels_takes_new_ones_behind_its_own(write):
    sample = project_root() / "data" / "samples" / "emotion19_zh.csv"
    rows = "".join(f"我真羡慕她的第{n}个朋友,嫉妒\n" for n in range(12))
    more = write("more.csv", sample.read_text(encoding="utf-8").rstrip("\n") + "\n" + rows)
    before = load_dataset(DataSection(name="emotion19_zh")).labels.names
    after = load_dataset(DataSection(name="emotion19_zh", path=str(more))).labels.names
    assert len(before) == 19 and after == (*before, "嫉妒")
