"""Modules are compared with the weights that are there, and counts with what models have."""

import json
import threading
from pathlib import Path

import pytest
import torch
from tests.models_for_tests import tiny_bert, tiny_llama
from torch import nn

from textassay.errors import GateError
from textassay.models.classifier import load_config, skeleton
from textassay.models.proportion import (
    MORE_ELEMENTS,
    MORE_TENSORS,
    TIMES,
    refuse_larger,
    refuse_odd_counts,
    stored_shapes,
)


def test_modules_may_have_what_the_weights_hold_and_a_new_head() -> None:
    with refuse_larger("config.json", [(1000, 1000)]):
        nn.Linear(4000, 1000)


def test_a_larger_module_is_refused_before_it_is_written_to() -> None:
    with (
        refuse_larger("DIR: config.json", [(10, 10)]),
        pytest.raises(GateError, match=r"DIR: config.json describes more than 900,000,000 numbers"),
    ):
        nn.Linear(30_000, 30_000)
    with torch.device("meta"):
        nn.Linear(30_000, 30_000)  # not counted any more


def test_many_small_modules_are_refused() -> None:
    with (
        refuse_larger("config.json", [(2,)] * 10),
        pytest.raises(GateError, match=f"in {TIMES * 10 + MORE_TENSORS + 1:,} tensors"),
    ):
        nn.Sequential(*(nn.Linear(2, 2) for _ in range(2000)))


def test_buffers_count_and_what_replaces_another_counts_once() -> None:
    module = nn.Module()
    with refuse_larger("config.json", []), torch.device("meta"):
        for _ in range(3):
            module.register_parameter("weight", nn.Parameter(torch.empty(MORE_ELEMENTS - 10)))
        with pytest.raises(GateError):
            module.register_buffer("mask", torch.empty(11))


def test_another_threads_modules_are_not_counted() -> None:
    made = []
    with refuse_larger("config.json", []), torch.device("meta"):

        def other() -> None:
            with torch.device("meta"):
                made.append(nn.Linear(30_000, 30_000))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert made


@pytest.mark.parametrize("make", [tiny_bert, tiny_llama])
def test_real_models_are_in_proportion(make, tmp_path: Path) -> None:
    folder = make(tmp_path)
    config = load_config(folder)
    config.textassay = {}
    with refuse_larger("config.json", stored_shapes(folder)):
        skeleton(config)


@pytest.mark.parametrize(
    "name, value", [("num_hidden_layers", 10**8), ("n_layers", "100001"), ("num_labels", 1e9)]
)
def test_counts_that_no_model_has_are_refused(name: str, value: object, tmp_path: Path) -> None:
    inside = {"model_type": "bert", "text_config": [{"deeper": {name: value}}]}
    (tmp_path / "config.json").write_text(json.dumps(inside))
    with pytest.raises(GateError, match=name):
        refuse_odd_counts(tmp_path)


def test_other_numbers_are_not_counts(tmp_path: Path) -> None:
    content = {"vocab_size": 10**7, "max_position_embeddings": 10**7, "num_hidden_layers": 96,
               "layer_norm_eps": 1e9, "tie_layers": True, "depth": "deep",
               "num_labels": 1000}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(content))
    refuse_odd_counts(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    refuse_odd_counts(tmp_path)  # whoever reads it will say what is wrong
