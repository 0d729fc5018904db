"""What a classifier's config.json says of its labels. One rule for torch, ONNX and the doctor.

`config` is the content of a config.json, or `to_dict()` of a config of transformers. Nothing slow
is imported.
"""

from collections.abc import Mapping
from typing import Any

SINGLE_LABEL = "single_label_classification"
# transformers leaves two labels without names out of the file.
DEFAULT_LABELS = 2
# A number of a few digits would become a list of so many names.
MOST_LABELS = 100_000


def label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The label names in the order of the logits; LABEL_0, LABEL_1, ... where none are given.

    Raises ValueError, with the reason in words, for an `id2label` that names no such order.
    """
    by_id = config.get("id2label")
    if by_id is None:
        count = config.get("num_labels") or DEFAULT_LABELS
        if int(count) > MOST_LABELS:
            raise ValueError(f"num_labels is {int(count):,}, and none of them has a name")
        return tuple(f"LABEL_{index}" for index in range(int(count)))
    if not isinstance(by_id, Mapping):
        raise ValueError(f"id2label is {by_id!r} and no object")
    names = [None if name is None else str(name) for name in by_id.values()]
    try:
        ids = [int(key) for key in by_id]
    except (TypeError, ValueError):
        ids = []
    if sorted(ids) != list(range(len(names))) or not names:
        raise ValueError(f"the keys of id2label are {list(by_id)}, not 0, 1, 2 and so on")
    ordered = tuple(name for _, name in sorted(zip(ids, names, strict=True)) if name is not None)
    if len(ordered) < len(names):
        raise ValueError(f"id2label has a label without a name: {names}")
    if len(set(ordered)) < len(ordered):
        raise ValueError(f"id2label gives two labels the same name: {list(ordered)}")
    _refuse_contradiction(config.get("label2id"), ordered)
    return ordered


def _refuse_contradiction(label2id: Any, names: tuple[str, ...]) -> None:
    """ValueError where `label2id` has the same names in another order.

    Other names are left over from before the labels were named, and say nothing.
    """
    if not isinstance(label2id, Mapping) or {*map(str, label2id)} != {*names}:
        return
    ids = {str(name): str(index) for name, index in label2id.items()}  # some write text
    if any(ids[name] != str(index) for index, name in enumerate(names)):
        told = f"label2id is {str(dict(label2id))[:150]} where id2label says {str(names)[:150]}"
        raise ValueError(told)


def unsupported_problem(config: Mapping[str, Any]) -> str | None:
    """Why a softmax over the logits would not be this model's answer; None where it is.

    `config` must have passed `label_names`.
    """
    problem = config.get("problem_type")
    if problem == "multi_label_classification":
        return (
            "problem_type is multi_label_classification: a text may have several labels or none, "
            "and only models that choose one label are supported"
        )
    if problem == "regression":
        return "problem_type is regression: the model gives a number and no label"
    if problem not in (None, SINGLE_LABEL):
        return f"problem_type is {problem!r}, and only {SINGLE_LABEL} is supported"
    if len(label_names(config)) < 2:
        return (
            "id2label names one label, so the model gives one number (a regression, or a "
            "probability by itself) and chooses between no labels"
        )
    applied = config.get("function_to_apply")
    if applied in ("sigmoid", "none"):
        return f"function_to_apply is {applied}, and only softmax is supported"
    activation = (config.get("sentence_transformers") or {}).get("activation_fn", "")
    if str(activation).endswith("Sigmoid"):
        return "sentence_transformers.activation_fn is Sigmoid, and only softmax is supported"
    return None
