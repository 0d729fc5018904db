"""From a data section to checked splits, on the rows that come along and on small files."""

from collections import Counter
from pathlib import Path

import pytest
from tests.tables_for_tests import pairs_of

from textassay.config.schema import DataSection
from textassay.data.load import SPLITS, load_dataset, load_rows
from textassay.data.read import read_file
from textassay.data.trained_on import TrainedOn
from textassay.data.words import normalized
from textassay.errors import DataError, UsageError
from textassay.files import project_root

SAMPLES = {"sentiment5_en": 5, "emotion19_zh": 19}
NAMED = {"Negative", "Positive"}


def as_csv(rows, header="text,label"):
    return header + "\n" + "".join(f"{text},{label}\n" for text, label in rows)


def numbered(count, prefix="text", labels=("bad", "good")):
    return [(f"{prefix} {number}", labels[number % len(labels)]) for number in range(count)]


def load(**section):
    return load_dataset(DataSection(**section))


def refusal(**section):
    with pytest.raises(DataError) as caught:
        load(**section)
    return str(caught.value)


def sizes(dataset):
    return {split: len(table) for split, table in dataset.splits.items()}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_split_without_losing_a_row_or_a_label(name):
    dataset = load(name=name)
    rows = read_file(project_root() / "data" / "samples" / f"{name}.csv")
    whole = list(
        zip(rows.columns["text"].to_pylist(), rows.columns["label"].to_pylist(), strict=True)
    )
    split = [pair for name in SPLITS for pair in pairs_of(dataset.splits[name])]
    assert Counter(split) == Counter(whole)
    for table in dataset.splits.values():
        assert set(table["label"].to_pylist()) == set(dataset.labels.names)
    assert len(dataset.labels) == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_no_text_of_the_samples_stands_in_two_splits(name):
    splits = load(name=name).splits
    texts = [{normalized(text) for text in splits[name]["text"].to_pylist()} for name in SPLITS]
    assert len(set.union(*texts)) == sum(map(len, texts))


def test_the_shares_are_those_of_the_section():
    plain = sizes(load(name="sentiment5_en"))
    rows = sum(plain.values())
    wide = sizes(load(name="sentiment5_en", test_size=0.2, validation_size=0.25))
    assert plain["test"] == pytest.approx(0.1 * rows, abs=5)
    assert plain["validation"] == pytest.approx(0.15 * 0.9 * rows, abs=5)
    assert wide["test"] == pytest.approx(0.2 * rows, abs=5)
    assert wide["validation"] == pytest.approx(0.25 * 0.8 * rows, abs=5)


def test_the_cut_is_the_same_every_time_and_moves_only_with_the_split_seed():
    first, again, moved = (load(name="sentiment5_en", split_seed=s) for s in (None, 0, 1))
    assert [first.fingerprint(s) for s in SPLITS] == [again.fingerprint(s) for s in SPLITS]
    assert all(first.fingerprint(s) != moved.fingerprint(s) for s in SPLITS)


def test_the_line_of_a_row_is_where_it_stands_in_its_file():
    path = project_root() / "data" / "samples" / "emotion19_zh.csv"
    lines = path.read_text(encoding="utf-8").split("\n")
    table = load(name="emotion19_zh").splits["validation"]
    assert len(table) > 100
    for row in table.to_pylist():
        assert row["file"] == str(path)
        assert row["text"][:5] in lines[row["line"] - 1].replace('""', '"')


def test_published_splits_are_left_as_they_are(write, tmp_path):
    for split, count in (("train", 40), ("dev", 10), ("test", 6)):
        write(f"set/{split}.csv", as_csv(numbered(count, split)))
    dataset = load(path=str(tmp_path / "set"))
    assert sizes(dataset) == {"train": 40, "validation": 10, "test": 6}
    assert dataset.name == "set"
    assert dataset.notes == []


def test_only_the_splits_that_are_missing_are_cut_off_and_it_is_said(write, tmp_path):
    write("set/train.csv", as_csv(numbered(100)))
    write("set/test.csv", as_csv(numbered(10, "other")))
    dataset = load(path=str(tmp_path / "set"))
    assert sizes(dataset) == {"train": 84, "validation": 16, "test": 10}
    assert dataset.notes == ["validation: 16 rows cut off train (stratified, split seed 0)"]


def test_what_is_cut_off_stands_in_no_published_split_either(write, tmp_path):
    write("set/train.csv", as_csv(numbered(40)))
    write("set/dev.csv", as_csv([*numbered(30), *numbered(4, "other")]))
    splits = load(path=str(tmp_path / "set"), test_size=0.2).splits
    assert len(splits["test"]) == 8
    assert not set(pairs_of(splits["test"])) & set(pairs_of(splits["validation"]))


def test_files_named_one_by_one_are_the_splits(write):
    files = {
        f"{split}_file": str(write(f"{split}.jsonl", '{"text": "%s %d", "label": %d}\n' * 2 % (
            split, 1, 0, split, 2, 1))) for split in SPLITS
    }  # fmt: skip
    assert sizes(load(**files)) == dict.fromkeys(SPLITS, 2)


@pytest.mark.parametrize("alone", ["validation_file", "test_file"])
def test_a_file_to_test_on_is_not_enough(alone):
    with pytest.raises(UsageError, match="go with --train_file"):
        load(**{alone: "a.csv"})


def test_a_section_that_names_no_data_is_refused():
    with pytest.raises(UsageError, match="--data_path"):
        load()


@pytest.mark.parametrize("path", ["nowhere.csv", "./nowhere", "/nowhere/at/all", "~/nowhere"])
def test_a_path_that_leads_nowhere_is_not_looked_up_on_the_hub(path):
    found = path.replace("~", str(Path.home()))
    assert refusal(path=path) == f"{found}: there is no such file or directory."


def test_a_set_that_is_on_no_hub_asks_for_its_directory(monkeypatch):
    monkeypatch.delenv("TEXTASSAY_DATA_DIR", raising=False)
    assert "--data_path" in refusal(name="smp2020_ewect_usual")


def test_texts_that_stand_in_two_published_splits_are_counted(write, tmp_path):
    write("set/train.csv", as_csv(numbered(40)))
    write("set/dev.csv", as_csv([*numbered(7), *numbered(20, "other")]))
    write("set/test.csv", as_csv([*numbered(3, "TEXT!"), *numbered(5, "Other")]))
    overlaps = [note for note in load(path=str(tmp_path / "set")).notes if "overlap" in note]
    assert overlaps == [
        "overlap: 7 of 27 validation rows have a text that also stands in train",
        "overlap: 3 of 8 test rows have a text that also stands in train",
        "overlap: 8 of 8 test rows have a text that also stands in validation",
    ]


def test_a_split_that_is_train_again_is_refused(write, tmp_path):
    for split in ("train", "dev"):
        write(f"set/{split}.csv", as_csv(numbered(40)))
    assert "every validation row also stands in train" in refusal(path=str(tmp_path / "set"))


@pytest.mark.parametrize(("name", "labels"), [(None, {"0", "1"}), ("sst2_glue", NAMED)])
def test_a_test_split_without_labels_is_left_out_and_one_is_cut_off(name, labels, write, tmp_path):
    write("set/train.csv", as_csv(numbered(100, labels=("0", "1"))))
    write("set/test.csv", as_csv(numbered(50, "secret", labels=("-1",))))
    dataset = load(name=name, path=str(tmp_path / "set"))
    assert any("withheld" in note for note in dataset.notes)
    assert not any("secret" in text for text in dataset.splits["test"]["text"].to_pylist())
    assert set(dataset.splits["test"]["label"].to_pylist()) == labels


def test_a_label_that_only_another_split_has_is_refused_with_the_file(write, tmp_path):
    write("set/train.csv", as_csv(numbered(40)))
    write("set/dev.csv", as_csv([("a", "good"), ("b", "postive")]))
    message = refusal(path=str(tmp_path / "set"))
    assert message.startswith(str(tmp_path / "set" / "dev.csv"))
    assert "'postive'" in message


def test_bad_rows_stop_the_run_unless_they_are_to_be_left_out(write):
    path = write("a.csv", as_csv([*numbered(30), ("", "good"), ("a", ""), *numbered(30, "more")]))
    message = refusal(path=str(path))
    assert f"{path}, line 32: has no text; {path}, line 33: has no label" in message
    dataset = load(path=str(path), on_bad_rows="skip")
    assert sum(sizes(dataset).values()) == 60
    assert dataset.notes[0].startswith("2 rows left out")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("", "x"), ("", "y")], "no usable row"),
        (numbered(9, labels=("x",)), "every row has the label 'x'"),
        ([("a", "x"), ("b", "y")], "a single text"),
        (numbered(9, labels=("0.5", "1.5")), "a measurement"),
        (numbered(9, labels=("1", "one")), "write all labels alike"),
    ],
)
def test_rows_that_make_no_task_are_refused(rows, reason, write):
    path = write("a.csv", as_csv(rows))
    assert reason in refusal(path=str(path), on_bad_rows="skip")


def test_a_part_of_the_rows_keeps_splits_labels_and_proportions():
    dataset = load(name="sentiment5_en", max_samples=50)
    assert sizes(dataset) == dict.fromkeys(SPLITS, 50)
    for table in dataset.splits.values():
        assert all(8 <= count <= 12 for count in Counter(table["label"].to_pylist()).values())
    assert sum("max_samples" in note for note in dataset.notes) == 3


def test_a_part_of_the_rows_comes_from_the_same_splits():
    whole, part = load(name="sentiment5_en"), load(name="sentiment5_en", max_samples=50)
    for split in SPLITS:
        assert set(pairs_of(part.splits[split])) <= set(pairs_of(whole.splits[split]))


def test_columns_and_names_are_taken_from_the_section(write):
    path = write(
        "a.tsv", "".join(f"{n}\t{label}\t{text}\n" for n, (text, label) in enumerate(numbered(40)))
    )
    dataset = load(
        path=str(path),
        column_names=["id", "mood", "words"],
        text_column="words",
        label_column="mood",
    )
    split = [pair for name in SPLITS for pair in pairs_of(dataset.splits[name])]
    assert Counter(split) == Counter(numbered(40))


def test_a_known_set_in_another_folder_keeps_the_names_of_its_labels(write, tmp_path, monkeypatch):
    write(
        "sst2/train.tsv",
        "sentence\tlabel\n" + "".join(f"{t}\t{n}\n" for t, n in numbered(40, labels="01")),
    )
    monkeypatch.setenv("TEXTASSAY_DATA_DIR", str(tmp_path))
    by_name, by_path = load(name="sst2"), load(name="sst2", path=str(tmp_path / "sst2"))
    assert by_name.labels.names == by_path.labels.names == ("Negative", "Positive")
    assert load(path=str(tmp_path / "sst2")).labels.names == ("0", "1")


def test_a_fingerprint_changes_with_every_text_label_and_order(write):
    def fingerprint(rows):
        path = write("a.csv", as_csv(rows))
        other = write("b.csv", as_csv(numbered(10, "other")))
        named = {"train_file": str(path), "validation_file": str(other), "test_file": str(other)}
        return load(**named).fingerprint("train")

    rows = numbered(20)
    changed = [rows, [("new", "bad"), *rows[1:]], [("text 0", "good"), *rows[1:]], rows[::-1]]
    assert len({fingerprint(rows) for rows in changed}) == 4
    assert fingerprint(rows) == fingerprint(list(rows))


def test_rows_to_evaluate_on_are_read_without_a_cut(write):
    path = write("a.csv", as_csv(numbered(9, labels=("good",))))
    assert pairs_of(load_rows(path, DataSection())[0]) == numbered(9, labels=("good",))


def test_a_class_of_two_in_a_hundred_stays_in_every_split_of_a_small_sample(write):
    path = write("a.csv", as_csv(numbered(1000, labels=("common",) * 49 + ("rare",))))
    dataset = load(path=str(path), max_samples=20)
    for table in dataset.splits.values():
        assert len(table) == 20
        assert set(table["label"].to_pylist()) == {"common", "rare"}


def test_a_sample_that_cannot_hold_every_label_is_refused_by_the_numbers():
    with pytest.raises(UsageError, match=r"max_samples: 4 rows .* 5 labels of train; name 5"):
        load(name="sentiment5_en", max_samples=4)


def test_a_class_too_rare_for_a_split_is_named(write):
    rows = [*numbered(60, labels=("normal",)), *numbered(2, "fraud", labels=("fraud",))]
    dataset = load(path=str(write("a.csv", as_csv(rows))), max_samples=30)
    assert "fraud" in dataset.splits["train"]["label"].to_pylist()
    said = [note for note in dataset.notes if "no row has the label fraud" in note]
    assert [note.partition(":")[0] for note in said] == ["validation", "test"]


def test_repeated_texts_are_counted_where_they_are_many(write):
    rows = [*numbered(60), *[("Again!", "good")] * 30]
    notes = load(path=str(write("a.csv", as_csv(rows)))).notes
    [note] = [note for note in notes if "distinct" in note]
    assert note == "train: 69 rows hold 40 distinct texts, one of them 30 times"


def test_all_files_of_a_set_are_in_one_encoding_which_is_said_of_each(write):
    polish = [f"Zamówienie dotarło dziękuję {number}" for number in range(40)]
    rows = [(text, "abc"[number % 2]) for number, text in enumerate(polish)]
    train = write("train.csv", as_csv(rows).encode("cp1250"))
    test = write(
        "test.csv", as_csv([("Świetne £", "a"), ("żółty", "b")]).encode("cp1250", "ignore")
    )
    dataset = load(path=str(train.parent))
    assert [text for text, _ in pairs_of(dataset.splits["test"])] == ["Świetne ", "żółty"]
    said = [note for note in dataset.notes if "Windows-1250" in note]
    assert {str(train), str(test)} == {note.partition(": ")[0] for note in said}


def test_the_names_of_a_class_label_count_also_for_a_set_of_the_catalog(tmp_path):
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    names = {"_type": "ClassLabel", "names": ["negative", "positive"]}
    table = pa.table({"text": [f"t {n}" for n in range(40)], "label": [n % 2 for n in range(40)]})
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": names}}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "train.parquet")
    assert load(path=str(tmp_path)).labels.names == ("negative", "positive")
    assert load(name="sst2_glue", path=str(tmp_path)).labels.names == ("Negative", "Positive")


def test_what_was_noted_of_one_file_comes_with_its_rows(write):
    path = write("a.csv", 'text,label\ncafé,a\n"b""",a\nx\n'.encode("cp1252"))
    table, notes = load_rows(path, DataSection(on_bad_rows="skip"))
    assert len(table) == 2 and "Windows-1252" in notes[0] and "1 row left out" in notes[1]


@pytest.mark.parametrize("text", ["NaN", "None", "NULL"])
def test_what_programs_write_for_no_text_is_none(text, write):
    path = write("a.csv", as_csv([*numbered(40), (text, "good")]))
    assert "line 42: has no text" in refusal(path=str(path))


def test_a_label_spelt_as_a_list_is_its_one_element(write):
    rows = [(text, f"['{label}']") for text, label in numbered(40)]
    path = write("a.csv", as_csv([*rows, ("none", "[]")]))
    assert load(path=str(path), on_bad_rows="skip").labels.names == ("bad", "good")
    assert "line 42: has no label" in refusal(path=str(path))


@pytest.mark.parametrize("header", ["id,text", "text,target,id"])
def test_a_test_file_of_a_competition_is_left_out_and_one_is_cut_off(header, write, tmp_path):
    write("set/train.csv", as_csv(numbered(100), "text,target"))
    rows = [(1, "secret")] * 20 if header == "id,text" else [("secret", ",7")] * 20
    write("set/test.csv", as_csv(rows, header))
    dataset = load(path=str(tmp_path / "set"))
    what = "label column" if header == "id,text" else "labels"
    note = f"{tmp_path / 'set' / 'test.csv'}: has no {what}, so it is left out"
    assert note in dataset.notes
    assert "secret" not in dataset.splits["test"]["text"].to_pylist()
    assert len(dataset.splits["test"]) == 10


def test_a_test_file_that_the_user_names_must_have_labels(write):
    files = {"train_file": str(write("a.csv", as_csv(numbered(40))))}
    message = refusal(**files, test_file=str(write("b.csv", as_csv([(1, "a")], "id,text"))))
    assert "b.csv: has no label column among 'id', 'text'" in message
    message = refusal(**files, test_file=str(write("c.csv", as_csv([("a", ""), ("b", "")]))))
    assert "c.csv, line 2: has no label" in message


def test_a_name_for_nothing_is_a_class_where_labels_names_it_and_is_not_dropped(write):
    path = write("a.csv", as_csv(numbered(90, labels=("none", "NA", "racism"))))
    assert "has no label (none)" in refusal(path=str(path))
    dataset = load(path=str(path), labels=["none", "NA", "racism"], on_bad_rows="skip")
    assert dataset.labels.names == ("none", "NA", "racism")
    assert sum(sizes(dataset).values()) == 90


def test_codes_and_mixtures_are_classes_where_they_are_categories(write):
    rows = numbered(120, labels=("250", "250.0", "427.5", "unknown"))
    dataset = load(path=str(write("a.csv", as_csv(rows))), label_type="category")
    assert set(dataset.labels.names) == {"250", "250.0", "427.5", "unknown"}


def test_labels_that_look_alike_are_made_one_in_all_splits(write, tmp_path):
    write("set/train.csv", as_csv(numbered(88, labels=("good", "bad", "Good", "good"))))
    write("set/test.csv", as_csv(numbered(9, "other", labels=("GOOD", "bad\u200b"))))
    where = str(tmp_path / "set")
    assert "read it as 'good' with --normalize_labels" in refusal(path=where)
    dataset = load(path=where, normalize_labels=True)
    assert dataset.labels.names == ("bad", "good")


def test_a_model_reads_rows_as_those_that_it_was_trained_on(write):
    rows = numbered(30, labels=("none", "250.0", "a,b", "a", "b", "5"))
    path = write("a.csv", as_csv([(text, f'"{label}"') for text, label in rows]))
    model = TrainedOn(labels=("none", "250.0", "a,b", "a", "b", "5"))
    table, _ = load_rows(path, DataSection(), model=model)
    assert pairs_of(table) == rows


JOINED = "title,body,label\n" + "".join(f"t {n},b {n},{n % 2}\n" for n in range(40))


def test_a_model_joins_the_columns_that_it_was_trained_on_and_it_is_said(write):
    path = write("a.csv", JOINED)
    assert "--text_column title,body joins them" in refusal(path=str(path))
    dataset = load(path=str(path), text_column="title,body")
    assert any("'title' and 'body', joined by a space" in note for note in dataset.notes)
    texts, notes = load_rows(path, DataSection(), model=TrainedOn(text_column="title,body"))
    assert texts["text"].to_pylist() == [f"t {n} b {n}" for n in range(40)]
    assert any("joined by a space" in note for note in notes)
    other = write("b.csv", "text,label\na,0\nb,1\n")
    table, notes = load_rows(other, DataSection(), model=TrainedOn(text_column="title,body"))
    assert (table["text"].to_pylist(), notes) == (["a", "b"], [])


def test_a_second_column_of_texts_that_is_not_read_is_said(write):
    rows = [(f"the first text {n}", f"quite another text {n},{n % 2}") for n in range(40)]
    dataset = load(path=str(write("a.csv", as_csv(rows, "text,context,label"))))
    assert any("'context' holds texts too" in note for note in dataset.notes)


def test_columns_to_join_may_be_a_list_as_in_a_job_file(write):
    path = str(write("a.csv", JOINED))
    listed, told = (load(path=path, text_column=of) for of in (["title", "body"], "title,body"))
    assert listed.whole_fingerprint() == told.whole_fingerprint()
