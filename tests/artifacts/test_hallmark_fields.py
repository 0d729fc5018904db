"""A hallmark.json may hold anything: every command that reads it says what is wrong with it."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.commands_for_tests import go_offline, script
from tests.serving.tiny_onnx import tiny_onnx

from textassay import Classifier
from textassay.artifacts.hallmark import FILE, read_hallmark, stamp, verify
from textassay.artifacts.kinds import load_artifact
from textassay.errors import GateError, TextassayError

HUGE = 10**400
MISSING = object()
ODD: list[Any] = [
    MISSING, None, [], {}, "text", "", True, 0, -1, 1.5, HUGE, float("nan"), float("inf"), [None],
    [[]], [1], ["a"], {"a": None}, {"a": {}}, {"": [[1, 2]]},
]  # fmt: skip


@pytest.fixture(scope="module")
def stamped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny artifact in ONNX, which loads in no time."""
    folder = tiny_onnx(tmp_path_factory.mktemp("onnx"))
    base = {"name": "base", "weights": "sha256:0"}
    made_by = {"command": "train", "config": "sha256:1"}
    stamp(folder, load_artifact(folder), ["a good film", "bad"], base, {"name": "x"}, made_by, {})
    return folder


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a hallmark, at any depth; the whole first."""
    yield path
    if isinstance(content, dict | list):
        keys = list(content) if isinstance(content, dict) else range(len(content))
        for key in keys:
            yield from places(content[key], (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(content)
    if not path:
        return {} if value is MISSING else value
    parent = made
    for key in path[:-1]:
        parent = parent[key]
    if value is MISSING:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return made


@pytest.mark.usefixtures("capsys")
def test_any_field_of_any_type_is_read_or_named(stamped: Path) -> None:
    """Reading, verifying, loading: an answer or our error, whatever stands anywhere."""
    path = stamped / FILE
    before = path.read_text()
    whole = json.loads(before)
    tried = refused = 0
    try:
        for place in places(whole):
            for value in ODD:
                path.write_text(json.dumps(changed(whole, place, value)))
                tried += 1
                try:
                    read_hallmark(stamped)
                    verify(stamped)
                    Classifier.load(stamped, check_logits=True)
                except TextassayError as error:
                    assert isinstance(error, GateError), error
                    assert len(str(error)) < 600 + 2 * len(str(stamped)), (place, value)
                    refused += 1
    finally:
        path.write_text(before)
    assert tried > 500 and refused > 0.7 * tried, (tried, refused)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("kind", MISSING, "kind: field required"),
        ("kind", None, "kind: input should be a valid string"),
        ("files", [], "files: input should be a valid dictionary"),
        ("labels", "bad", "labels: input should be a valid list"),
        ("version", 2, "its version is 2, and this textassay knows 1; update it"),
        ("probe", {"texts": ["a"], "logits": [], "tolerance": 0.001}, "1 text and 0 rows of"),
        ("probe", {"texts": ["a"], "logits": [[1.0]], "tolerance": 0.001}, "not one logit for"),
        ("probe", {"texts": [], "logits": [], "tolerance": 1e9}, "less than or equal to 0.05"),
        ("base", {"weights": 5}, "base.weights: input should be a valid string"),
    ],
)
def test_the_field_is_named(field: str, value: Any, says: str, stamped: Path) -> None:
    path = stamped / FILE
    before = path.read_text()
    path.write_text(json.dumps(changed(json.loads(before), (field,), value)))
    try:
        done = script("verify")(stamped)
        assert done.exit_code == 3 and says in " ".join(done.stderr.split()), done.output
    finally:
        path.write_text(before)


DEEP = "[" * 200_000
NO_JSON = {
    "nested too deeply": DEEP.encode(),
    "nested objects": b'{"a":' * 200_000,
    "a long number": b"1" * 10_000,
    "no UTF-8": b'{"a": "\xff"}',
    "empty": b"",
    "cut off": b'{"version": 1',
}
FILES = ["hallmark.json", "config.json", "tokenizer_config.json", "tokenizer.json",
         "label_mapping.json"]  # fmt: skip


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("is_stamped", [True, False])
def test_what_is_no_json_is_named_by_every_command(
    name: str, content: bytes, is_stamped: bool, stamped: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    go_offline(monkeypatch, tmp_path)
    there = (stamped / name).exists()
    before = (stamped / name).read_bytes() if there else b""
    hallmark = (stamped / FILE).read_bytes()
    (stamped / name).write_bytes(content)
    if not is_stamped and name != FILE:
        (stamped / FILE).unlink()
    try:
        rows = tmp_path / "rows.csv"
        rows.write_text("text,label\na,positive\nb,negative\n")
        for command, flags in {
            "predict": ["--text", "a"], "doctor": [], "verify": [],
            "evaluate": ["--data_path", rows, "--output_dir", tmp_path / "out"],
        }.items():  # fmt: skip
            done = script(command)(stamped, *flags)
            assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
            assert done.exit_code in (0, 2, 3) and "Traceback" not in done.output, done.output
            if command == "verify":
                assert done.exit_code == 3
    finally:
        (stamped / FILE).write_bytes(hallmark)
        (stamped / name).write_bytes(before)
        if not there:
            (stamped / name).unlink()
