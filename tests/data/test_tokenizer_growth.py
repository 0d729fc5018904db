"""Steps of a tokenizer that make much of little, and those of real ones, which do not."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.models_for_tests import tiny_bert, tiny_llama

from textassay.data.tokenizer_growth import refuse_growing_texts
from textassay.errors import GateError


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def in_turn(*steps: dict[str, Any], key: str = "normalizers") -> dict[str, Any]:
    return {"type": "Sequence", key: list(steps)}


DOUBLE = replace({"String": "a"}, "aa")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
SIXTEEN = in_turn(DOUBLE, DOUBLE, DOUBLE, DOUBLE)
GROWING = {
    "one that writes much": {"normalizer": replace({"String": "a"}, "b" * 2000)},
    "by regex": {"normalizer": in_turn(*[replace({"Regex": "."}, "ab" * 10)] * 3)},
    "of nothing": {"normalizer": in_turn(*[replace({"String": ""}, "a" * 40)] * 2)},
    "many": {"normalizer": in_turn(*[DOUBLE] * 20)},
    "nested": {"normalizer": in_turn(SIXTEEN, in_turn(SIXTEEN, SIXTEEN))},
    "bytes of bytes": {"pre_tokenizer": in_turn(*[BYTES] * 20, key="pretokenizers")},
    "in both parts": {
        "normalizer": in_turn(*[DOUBLE] * 6),
        "pre_tokenizer": in_turn(*[BYTES] * 6, key="pretokenizers"),
    },
    "text again": {"post_processor": {
        "type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 2000}},
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(GROWING[name]))
    with pytest.raises(GateError, match=r"tokenizer\.json: .*letters of one"):
        refuse_growing_texts(tmp_path / "tokenizer.json")


REAL = {
    "llama": {"normalizer": in_turn({"type": "Prepend", "prepend": "▁"},
                                    replace({"String": " "}, "▁"))},
    "xlm-roberta": {"normalizer": in_turn({"type": "Precompiled", "precompiled_charsmap": "AA"},
                                          replace({"Regex": " {2,}"}, " "))},
    "albert": {"normalizer": in_turn(
        replace({"String": "``"}, '"'), replace({"String": "''"}, '"'), {"type": "NFKD"},
        {"type": "StripAccents"}, {"type": "Lowercase"}, {"type": "Precompiled"})},
    "nothing": {"normalizer": None, "pre_tokenizer": None, "post_processor": None},
    "odd": {"normalizer": {"type": "Replace", "pattern": "a", "content": 3}},
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_what_real_ones_have_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(REAL[name]))
    refuse_growing_texts(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("make", [tiny_bert, tiny_llama])
def test_tokenizers_of_models_are_read(make: Any, tmp_path: Path) -> None:
    make(tmp_path)
    refuse_growing_texts(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_what_else_is_wrong_the_library_says(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    refuse_growing_texts(tmp_path / "tokenizer.json")
    refuse_growing_texts(tmp_path / "absent.json")
