"""A `Classifier` where people expect a `pipeline("text-classification")` of transformers."""

import itertools

import numpy as np
import pytest
import transformers
from tests.prediction.answering import make_classifier, texts_of

import textassay
from textassay.errors import DataError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def classifier(model):
    return textassay.Classifier.load(model, threads=1)


@pytest.fixture(scope="module")
def pipeline(model):
    return transformers.pipeline(
        "text-classification", model=str(model), device="cpu", truncation=True, max_length=48
    )


def alike(found, wanted):
    if isinstance(wanted, list):
        assert isinstance(found, list) and len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            alike(one, other)
        return
    assert list(found) == list(wanted) == ["label", "score"]
    assert found["label"] == wanted["label"]
    assert found["score"] == pytest.approx(wanted["score"], abs=1e-5)


@pytest.mark.parametrize("given", ["a good film", ["a good film", "", "bad " * 100], texts_of(20)],
                         ids=["a string", "a list", "many"])  # fmt: skip
@pytest.mark.parametrize("flags", [{}, {"top_k": 1}, {"top_k": 2}, {"top_k": None}], ids=str)
def test_it_answers_as_a_pipeline_does(given, flags, classifier, pipeline):
    found, wanted = classifier(given, **flags), pipeline(given, **flags)
    if flags == {"top_k": 1}:  # where the library wraps each answer in a list of its own
        wanted = [one[0] if isinstance(one, list) else one for one in wanted]
    alike(found, wanted)


def test_any_iterable_is_a_list_of_texts(classifier):
    texts = texts_of(9)
    assert classifier(iter(texts)) == classifier(tuple(texts)) == classifier(texts)
    assert classifier([]) == []


def test_a_stream_asks_for_no_more_than_it_looks_at(classifier):
    taken, texts = [], texts_of(40)
    endless = (taken.append(text) or text for text in itertools.cycle(texts))
    rows = classifier.stream(endless, window=8)
    first = [next(rows) for _ in range(11)]
    assert len(taken) == 16
    wanted = classifier.predict_proba(texts[:11])
    np.testing.assert_allclose(first, wanted, atol=1e-6)


def test_what_is_no_text_is_named_by_its_number(classifier):
    for wrong, reason in (
        (["fine", "\ud83d"], "text 2: holds half"),
        (["fine", "ok", 7], "text 3"),
    ):
        with pytest.raises(DataError, match=reason):
            classifier(wrong)
