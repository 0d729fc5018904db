"""Rules that every file of the package keeps, and no linter knows."""

import ast
import functools
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from textassay.files import project_root

PACKAGE = project_root() / "src" / "textassay"
FILES = sorted(PACKAGE.rglob("*.py"))
# Of PEFT: they read an adapter's config and weights, and load no model by its name.
WITHOUT_CODE = {"PeftConfig", "PeftModel"}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def calls(path: Path, method: str) -> list[ast.Call]:
    """The calls `….method(…)` in a file."""
    return [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute) and node.func.attr == method]  # fmt: skip


def test_no_model_brings_code_of_its_own() -> None:
    """Without `trust_remote_code=False` transformers asks at the terminal whether to run it."""
    checked = 0
    for path in FILES:
        for call in calls(path, "from_pretrained") + calls(path, "from_config"):
            if ast.unparse(call.func).split(".")[-2] in WITHOUT_CODE:
                continue
            said = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert said.get("trust_remote_code") == "False", f"{path}:{call.lineno}"
            checked += 1
    assert checked > 4


@pytest.mark.parametrize("method", ["broadcast_object_list", "all_gather_object", "gather_object"])
def test_processes_exchange_tensors_and_no_pickles(method: str) -> None:
    assert [str(path) for path in FILES if calls(path, method)] == []


def test_nothing_is_unpickled() -> None:
    """Files of torch are read by models/pickled.py, which runs nothing and makes nothing large."""
    loads = [(path, ast.unparse(call.func)) for path in FILES for call in calls(path, "load")]
    assert len(loads) >= 3
    assert not [path for path, name in loads if name in ("torch.load", "pickle.load")]


def test_a_library_that_loads_a_model_itself_does_not_ask_whether_to_run_its_code(
    tmp_path, monkeypatch
) -> None:
    """PEFT does, of a model or tokenizer that an adapter's config names."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from textassay.models import peft_library

    assert peft_library.peft
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    auto_map = dict.fromkeys(("AutoConfig", "AutoModel"), "theirs.Theirs")
    content = {"model_type": "theirs", "auto_map": auto_map}
    (tmp_path / "config.json").write_text(json.dumps(content))
    tokenizer = {"auto_map": {"AutoTokenizer": ["theirs.Theirs", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    monkeypatch.setattr("builtins.input", lambda _: "y")
    for library in (AutoConfig, AutoModel, AutoTokenizer):
        with pytest.raises(ValueError):
            library.from_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()


# What stands before a plural and is never 1, or is no number: "for xlnet models", "train rows".
NEVER_ONE = {
    "artifacts/doctor/weights.py": {"index.name"},
    "artifacts/onnx_foreign.py": {"labels"},
    "artifacts/onnx_session.py": {"longest"},
    "artifacts/zero/stream.py": {"written"},
    "cluster/resources.py": {"nodes"},
    "config/identity.py": {"split"},
    "config/job_yaml.py": {"MOST_VALUES"},
    "config/schema.py": {"len(self.seeds)"},
    "data/columns.py": {"'s' * (len(more) == 1)"},
    "data/delimited.py": {"len(value)"},
    "data/layout.py": {"max(counts)"},
    "data/load.py": {"split"},
    "data/prompt.py": {"len(encoded['input_ids'])"},
    "data/split_checks.py": {"len(table)", "inner", "labels"},
    "evaluation/calibrate.py": {"len(truth)", "rows"},
    "evaluation/comparison_plot.py": {"len(every)"},
    "evaluation/job_verdict.py": {"self.seeds"},
    "evaluation/outputs.py": {"teacher['texts_per_second']", "student['texts_per_second']"},
    "evaluation/standalone.py": {"request.max_length"},
    "models/classifier.py": {"window"},
    "models/heads.py": {"config.model_type"},
    "models/scoring.py": {"model.config.model_type"},
    "planning/measure.py": {"STEPS"},
    "planning/plan.py": {"job.resources.nodes"},
    "planning/rows.py": {"limit"},
    "planning/show.py": {"plan.length"},
    "prediction/terminal.py": {"classifier.max_length"},
    "serving/app.py": {"limits.body_bytes", "model.classifier.max_length"},
    "serving/bodies.py": {"len(text)", "most"},
    "serving/connections.py": {"self._limits.head_bytes", "PIPELINE", "self._body_bytes"},
}


def plurals(path: Path) -> list[str]:
    """The expressions that an f-string of this file puts right before a plural."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.JoinedStr):
            for value, after in pairwise(node.values):
                if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant):
                    word = re.match(r" ([a-z]+)\b", str(after.value))
                    if word and word[1] in COUNTED:
                        found.append(ast.unparse(value.value))
    return found


COUNTED = {
    f"{noun}s" for noun in (
        "row", "file", "text", "label", "run", "column", "line", "token", "step", "epoch", "seed",
        "model", "worker", "checkpoint", "shard", "tensor", "layer", "request", "split", "node",
        "byte", "second", "minute", "cell", "word", "head", "variable", "setting", "character",
        "name", "place", "weight", "module", "value", "job", "page", "item", "member", "thread",
    )
} | {"classes", "processes", "directories", "entries"}  # fmt: skip


def test_no_message_says_1_rows() -> None:
    """`counted()` of console.py writes `1 row` and `1,065 rows`."""
    wrong = {}
    for path in FILES:
        allowed = NEVER_ONE.get(str(path.relative_to(PACKAGE)), set())
        found = [expression for expression in plurals(path) if expression not in allowed]
        if found:
            wrong[str(path.relative_to(PACKAGE))] = found
    assert wrong == {}
    unneeded = {name: allowed - set(plurals(PACKAGE / name)) for name, allowed in NEVER_ONE.items()}
    assert not any(unneeded.values()), unneeded


# Joined whole in an error: lists of a known length, and what is cut behind the join.
SHORT_LISTS = {
    "SUFFIXES", "INPUTS", "INPUTS[one.name]", "parts", "changed", "there", "tried", "line",
    "told[:3]", "sorted(names)[:3]",
}  # fmt: skip


def test_no_error_lists_without_end() -> None:
    """With 77 labels, or 40 runs, a message was longer than 600 characters: `some()` cuts lists."""
    endless, looked_at = [], 0
    for path in FILES:
        for node in ast.walk(parsed(path)):
            if not (isinstance(node, ast.Raise) and node.exc):
                continue
            cut = {
                ast.dump(one.value) for one in ast.walk(node.exc) if isinstance(one, ast.Subscript)
            }
            for call in ast.walk(node.exc):
                if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "join":
                    looked_at += 1
                    listed = ast.unparse(call.args[0])
                    if listed not in SHORT_LISTS and ast.dump(call) not in cut:
                        endless.append(f"{path.name}:{node.lineno}: {listed}")
    assert not endless, endless
    assert looked_at > 8


def test_the_fixed_words_of_an_error_are_few() -> None:
    """A message has 600 characters at most, names and numbers among them."""
    longest = max(
        sum(len(str(part.value)) for part in ast.walk(node.exc) if isinstance(part, ast.Constant))
        for path in FILES for node in ast.walk(parsed(path))
        if isinstance(node, ast.Raise) and node.exc
    )  # fmt: skip
    assert 200 < longest < 400
