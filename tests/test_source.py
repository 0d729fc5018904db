"""Rules that every file of the package keeps, and no linter knows."""

import ast
import functools
import json
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
    assert checked > 8


@pytest.mark.parametrize("method", ["broadcast_object_list", "all_gather_object", "gather_object"])
def test_processes_exchange_tensors_and_no_pickles(method: str) -> None:
    assert [str(path) for path in FILES if calls(path, method)] == []


def test_torch_loads_weights_and_nothing_else() -> None:
    """`torch.load` unpickles, which runs whatever a file says, unless it is told not to."""
    loads = [(path, call) for path in FILES for call in calls(path, "load")
             if ast.unparse(call.func) == "torch.load"]  # fmt: skip
    assert len(loads) >= 3
    for path, call in loads:
        said = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert said.get("weights_only") == "True", f"{path}:{call.lineno}"


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
