"""What a config.json says of labels, read in one way by torch, ONNX and the doctor."""

from typing import Any

import pytest

from textassay.artifacts.label_config import label_names, unsupported_problem

ORDINARY = {"id2label": {"0": "bad", "1": "good"}}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (ORDINARY, ("bad", "good")),
        ({"id2label": {1: "good", 0: "bad"}}, ("bad", "good")),
        ({"id2label": {"0": 0, "1": 1}}, ("0", "1")),
        ({}, ("LABEL_0", "LABEL_1")),
        ({"id2label": None, "num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
    ],
)
def test_names_come_in_the_order_of_the_logits(
    config: dict[str, Any], names: tuple[str, ...]
) -> None:
    assert label_names(config) == names


@pytest.mark.parametrize(
    ("id2label", "reason"),
    [
        ({"0": "a", "2": "b"}, "not 0, 1, 2"),
        ({"a": 0, "b": 1}, "not 0, 1, 2"),
        ({}, "not 0, 1, 2"),
        (["a", "b"], "no object"),
        ({"0": "a", "1": None}, "without a name"),
        ({"0": "1", "1": 1}, "the same name"),
    ],
)
def test_what_names_no_order_is_refused(id2label: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        label_names({"id2label": id2label})


def test_the_same_names_in_another_order_are_refused_and_other_names_are_not() -> None:
    with pytest.raises(ValueError, match=r"label2id is .* where id2label says"):
        label_names({**ORDINARY, "label2id": {"good": 0, "bad": 1}})
    for label2id in ({"good": "1", "bad": 0}, {"LABEL_0": 1, "LABEL_1": 0}, None):
        assert label_names({**ORDINARY, "label2id": label2id}) == ("bad", "good")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"problem_type": "multi_label_classification"}, "several labels or none"),
        ({"problem_type": "regression"}, "a number and no label"),
        ({"problem_type": "ranking"}, "'ranking'"),
        ({"id2label": {"0": "LABEL_0"}}, "one number"),
        ({"id2label": {"0": "score"}, "problem_type": "regression"}, "a number and no label"),
        ({"function_to_apply": "sigmoid"}, "only softmax"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}},
         "only softmax"),
    ],
)  # fmt: skip
def test_what_no_softmax_answers_is_named(change: dict[str, Any], reason: str) -> None:
    assert reason in str(unsupported_problem({**ORDINARY, **change}))


@pytest.mark.parametrize(
    "change",
    [{}, {"problem_type": None}, {"problem_type": "single_label_classification"},
     {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}],
)  # fmt: skip
def test_a_model_that_chooses_one_label_is_supported(change: dict[str, Any]) -> None:
    assert unsupported_problem({**ORDINARY, **change}) is None
