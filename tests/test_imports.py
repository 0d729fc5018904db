"""What a command does not use it does not import: seconds of every first answer."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.models_for_tests import tiny_bert
from tests.serving.tiny_onnx import tiny_onnx

from textassay.config.schema import MethodSection, ModelSection
from textassay.data.labels import LabelMap
from textassay.files import project_root
from textassay.models.classifier import build_classifier
from textassay.models.methods import attach
from textassay.models.source import find_model

ROOT = project_root()
# Each costs between a tenth of a second and several seconds.
TRAINING = {"datasets", "pandas", "sklearn", "matplotlib", "transformers.trainer", "deepspeed",
            "bitsandbytes", "torch._inductor.compile_fx", "onnx", "onnxscript"}  # fmt: skip
TORCH = {"torch", "transformers", "peft", "accelerate", "scipy", "sympy"}
REPORT = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    code = end.code
print("imported:", *sys.modules, file=sys.stderr)
sys.exit(code)
"""


def imported(script: str, *arguments: object) -> set[str]:
    """All modules that a script has imported when it ends with exit code 0."""
    environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", REPORT, ROOT / "scripts" / script, *arguments]
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, _, names = done.stderr.rpartition("imported: ")
    assert "textassay.console" in names, done.stderr
    return set(names.split())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("base"))


def saved(base: Path, folder: Path, method: MethodSection) -> Path:
    """An artifact without a hallmark."""
    from textassay.artifacts.kinds import save_weights

    section = ModelSection(model_name_or_path=str(base), max_seq_length=32)
    source = find_model(str(base))
    built = build_classifier(source, LabelMap(("bad", "good")), section, None)
    save_weights(attach(built, method, str(base)), folder)
    built.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_model_answers_without_what_trains(base: Path, tmp_path: Path) -> None:
    model = saved(base, tmp_path / "model", MethodSection(name="full"))
    modules = imported("predict.py", model, "--text", "a good film")
    assert "torch" in modules and not modules & (TRAINING | {"peft", "onnxruntime"})


@pytest.mark.slow
def test_an_adapter_answers_without_four_bits_and_torchs_compiler(
    base: Path, tmp_path: Path
) -> None:
    adapter = saved(base, tmp_path / "adapter", MethodSection(name="lora"))
    modules = imported("predict.py", adapter, "--text", "a good film")
    assert "peft" in modules and not modules & (TRAINING | {"onnxruntime"})


def test_an_onnx_artifact_answers_without_torch(tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "model")
    rows = tmp_path / "rows.csv"
    rows.write_text("text\na good film\n")
    for asked in (("--text", "ok"), ("--input", rows, "--output", tmp_path / "out.csv")):
        modules = imported("predict.py", model, *asked)
        assert "onnxruntime" in modules and not modules & (TRAINING | TORCH), asked


def test_peft_is_imported_in_one_place() -> None:
    """Elsewhere it would bring bitsandbytes, which it looks for only once."""
    places = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            if any(name.split(".")[0] == "peft" for name in names):
                places.append(path.name)
    assert set(places) == {"peft_library.py", "generate.py"}


SHOWN = """
import sys
from textassay.models.peft_library import peft, show_bitsandbytes
assert "bitsandbytes" not in sys.modules and not peft.import_utils.is_bnb_available()
import bitsandbytes
from transformers.utils import is_bitsandbytes_available
assert is_bitsandbytes_available()
show_bitsandbytes(bitsandbytes)
from peft.tuners.lora import Linear4bit
assert peft.import_utils.is_bnb_4bit_available() and peft.helpers.bnb is bitsandbytes
"""


@pytest.mark.slow
def test_peft_finds_four_bits_once_they_are_used() -> None:
    pytest.importorskip("bitsandbytes", reason="the extra quantization is not installed")
    done = subprocess.run([sys.executable, "-c", SHOWN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
