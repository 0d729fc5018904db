"""The data sets of this project: what they promise, and no row that is another one again."""

import csv
from collections import Counter, defaultdict

import pytest

from textassay.data.read import read_file
from textassay.data.words import normalized
from textassay.files import project_root

SENTIMENTS = ["very negative", "negative", "neutral", "positive", "very positive"]
EMOTIONS = [
    "高兴", "厌恶", "害羞", "害怕", "生气", "认真", "紧张", "慌张", "疑惑", "兴奋", "无奈", "担心",
    "惊讶", "哭泣", "心动", "难为情", "自信", "调皮", "平静",
]  # fmt: skip
LABELS = {"sentiment5_en": SENTIMENTS, "emotion19_zh": EMOTIONS}
FEWEST = {"sentiment5_en": 120, "emotion19_zh": 50}


def path_of(name):
    return project_root() / "data" / "samples" / f"{name}.csv"


@pytest.fixture(scope="module", params=LABELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def rows(name):
    """(text, label) of every row, read by the standard library and not by ours."""
    with path_of(name).open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["label"]) for row in csv.DictReader(stream, strict=True)]


def pieces(name, text):
    """The 3-grams of an English text's words, the 4-grams of a Chinese text's characters."""
    if name.endswith("_en"):
        words = "".join(c if c.isalnum() else " " for c in text.lower().replace("'", "")).split()
        return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}
    plain = normalized(text)
    return {plain[i : i + 4] for i in range(len(plain) - 3)}


def alike(name, texts):
    """Pairs of texts that share more than half of the pieces of the one that has fewer."""
    holders = defaultdict(list)
    found = [pieces(name, text) for text in texts]
    shared = Counter()
    for number, own in enumerate(found):
        for piece in own:
            shared.update((other, number) for other in holders[piece])
            holders[piece].append(number)
    return [
        (texts[a], texts[b])
        for (a, b), count in shared.items()
        if count > 0.5 * min(len(found[a]), len(found[b]))
    ]


def test_the_columns_are_text_and_label_and_every_row_has_both(name, rows):
    read = read_file(path_of(name))
    assert list(read.columns) == ["text", "label"]
    assert read.bad == []
    assert read.columns["text"].to_pylist() == [text for text, _ in rows]
    assert all(text and text == text.strip() for text, _ in rows)


def test_the_labels_are_those_that_the_set_is_made_for(name, rows):
    assert {label for _, label in rows} == set(LABELS[name])


def test_every_label_has_its_rows_and_none_has_far_more_than_another(name, rows):
    found = Counter(label for _, label in rows)
    assert min(found.values()) >= FEWEST[name]
    assert max(found.values()) <= 1.3 * min(found.values())


def test_no_text_stands_twice(name, rows):
    twice = [text for text, count in Counter(normalized(t) for t, _ in rows).items() if count > 1]
    assert twice == []


def test_no_two_rows_are_made_from_one_mould(name, rows):
    assert alike(name, [text for text, _ in rows]) == []


def test_rows_from_one_mould_would_be_found():
    mould = "the service at this {} was slow but the food made up for it"
    assert len(alike("sentiment5_en", [mould.format(place) for place in ("inn", "bar")])) == 1
    assert len(alike("emotion19_zh", ["他把钥匙忘在办公室里了，", "她把钥匙忘在办公室里了！"])) == 1


def test_english_texts_have_between_3_and_60_words():
    texts = read_file(path_of("sentiment5_en")).columns["text"].to_pylist()
    lengths = sorted(len(text.split()) for text in texts)
    assert lengths[0] >= 3
    assert lengths[-1] <= 60


def test_chinese_texts_are_chinese():
    texts = read_file(path_of("emotion19_zh")).columns["text"].to_pylist()
    assert all(any("一" <= character <= "鿿" for character in text) for text in texts)
