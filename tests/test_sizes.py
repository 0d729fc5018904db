"""Files of a few kB that would take hundreds of megabytes: refused by every door, in little memory.

What each attack took before stands in docs/security.md.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import tiny_files_for_tests as tiny
from tests.commands_for_tests import everything, go_offline, paragraph
from tests.peaks_for_tests import Ended, measured

from textassay.artifacts.hallmark import FILE, stamp
from textassay.artifacts.kinds import load_artifact
from textassay.files import sha256_file

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed: no ONNX artifact")

GATE, DATA = 3, 65
# A small file has room for 134 MB; each attack wanted 240 MB and more.
MOST_MB = 190
ROWS = "text,label\n" + "".join(
    f"a good film {i},positive\na bad film {i},negative\nthe food {i},neutral\n" for i in range(20)
)
Door = Callable[[Path], Ended]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good directory of each kind, not to be changed; the model's and the graph's are stamped."""
    folder = tmp_path_factory.mktemp("good")
    model = tiny.good_model(folder / "model")
    made = {
        "model": model,
        "adapter": tiny.good_adapter(folder / "adapter", model),
        "zero": tiny.good_zero(folder / "zero", model),
        "onnx": tiny.good_onnx(folder / "onnx"),
    }
    for kind in ("model", "onnx"):
        stamp(made[kind], load_artifact(made[kind]), ["a good film"], {}, {}, {}, {})
    return made


@pytest.fixture(autouse=True)
def in_a_folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test works in its own folder, with rows, and keeps its caches elsewhere."""
    monkeypatch.chdir(tmp_path)
    go_offline(monkeypatch, tmp_path_factory.getbasetemp() / "caches")
    Path("rows.csv").write_text(ROWS)


DOORS: dict[str, Door] = {
    "predict": lambda folder: measured("predict", folder, "--text", "a good film"),
    "evaluate": lambda folder: measured("evaluate", folder, "--data_path", "rows.csv"),
    "doctor": lambda folder: measured("doctor", folder),
    "verify": lambda folder: measured("verify", folder),
    "export": lambda folder: measured("export", folder, "--to", "onnx", "--data_path", "rows.csv"),
    "train": lambda folder: measured(
        "train_full", "--model_name_or_path", folder, "--data_path", "rows.csv", "--output_dir",
        "out", "--max_seq_length", 16,
    ),
    "consolidate": lambda folder: measured("consolidate", folder, "out"),
}  # fmt: skip


def stamp_anew(folder: Path) -> None:
    """The hallmark of a directory, for the files that lie there now: a stranger can write one."""
    content = json.loads((folder / FILE).read_text())
    files = sorted(path for path in folder.iterdir() if path.name != FILE)
    content["files"] = {path.name: sha256_file(path) for path in files}
    (folder / FILE).write_text(json.dumps(content))


def check(ended: Ended, code: int, *says: str) -> None:
    """It was refused, with that exit code and those words, and little memory was taken."""
    told = ended.stdout + ended.stderr
    assert "Traceback" not in told, told
    assert ended.exit_code == code, told
    for words in says:
        assert words in told, told
    assert ended.grown < MOST_MB, f"{ended.grown:.0f} MB were taken to say: {told}"


def cases(attacks: dict[str, Any], doors: str, other_doors: str = "") -> Iterator[Any]:
    """Each attack at each door; at the other doors, which load in the same way, the first one."""
    for name in attacks:
        first = name == next(iter(attacks))
        for door in (f"{doors} {other_doors}" if first else doors).split():
            yield pytest.param(name, door, id=f"{name}-{door}")


SAYS_OF_MODEL = {
    "num_labels": "num_labels is 5,000,000", "bin_expanded": "lies in a storage of 1",
    "bin_deflated": "is compressed", "tokenizer_replaces": "letters of one",
    "num_hidden_layers": "tensors",
}  # fmt: skip


@pytest.mark.parametrize(
    "name, door", cases(tiny.MODEL, "predict doctor", "evaluate verify export train")
)
def test_a_model_is_no_larger_than_its_files(
    name: str, door: str, good: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(good["model"], tmp_path / "model"))
    tiny.MODEL[name](folder)
    stamp_anew(folder)
    ended = DOORS[door](folder)
    says = SAYS_OF_MODEL.get(name, "config.json describes more than")
    check(ended, GATE, str(folder) if door != "doctor" else "model", says)
    assert not Path("out").exists()


@pytest.mark.parametrize("name, door", cases(tiny.ADAPTER, "predict doctor", "export"))
def test_an_adapter_is_no_larger_than_its_file(
    name: str, door: str, good: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(good["adapter"], tmp_path / "adapter"))
    tiny.ADAPTER[name](folder)
    ended = DOORS[door](folder)
    check(ended, GATE, "adapter_config.json")


@pytest.mark.parametrize("name, door", cases(tiny.ZERO, "consolidate", "doctor evaluate"))
def test_a_zero_checkpoint_holds_what_it_says(
    name: str, door: str, good: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(good["zero"], tmp_path / "zero"))
    tiny.ZERO[name](folder)
    ended = DOORS[door](folder)
    code = GATE if door == "doctor" else DATA
    check(ended, code, "mp_rank_00_model_states.pt", "not read")
    assert not Path("out").exists()


@pytest.mark.parametrize("name, door", cases(tiny.ONNX, "predict", "evaluate doctor verify"))
def test_a_graph_takes_memory_in_proportion(
    name: str, door: str, good: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(good["onnx"], tmp_path / "onnx"))
    tiny.ONNX[name](folder)
    stamp_anew(folder)
    ended = DOORS[door](folder)
    check(ended, GATE, "onnx", "MB of memory")


TABLE_DOORS: dict[str, Callable[[Path, Path], Ended]] = {
    "predict": lambda file, model: measured("predict", model, "--input", file, "--output", "a.csv"),
    "evaluate": lambda file, model: measured(
        "evaluate", model, "--data_path", file, "--output_dir", "out"
    ),
    "clean": lambda file, model: measured("clean", file, "--output", "a.csv"),
    "train": lambda file, model: measured(
        "train_full", "--model_name_or_path", model, "--data_path", file, "--output_dir", "out",
        "--max_seq_length", 16,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name, door", cases(tiny.TABLES, "predict clean", "evaluate train"))
def test_a_table_takes_memory_in_proportion(
    name: str, door: str, good: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    file = tiny.TABLES[name](folder)
    before = everything()
    ended = TABLE_DOORS[door](file, good["model"])
    check(ended, DATA, file.name)
    assert paragraph(ended.stderr[ended.stderr.index("error: ") :])
    assert everything().keys() == before.keys()


def test_good_ones_go_through_and_the_peak_is_seen(good: dict[str, Path]) -> None:
    assert DOORS["predict"](good["onnx"]).exit_code == 0
    assert DOORS["doctor"](good["zero"]).exit_code == 0
    text = "word " * 180_000
    Path("large.csv").write_text(ROWS + f"{text},positive\n" * 60)
    ended = TABLE_DOORS["clean"](Path("large.csv"), good["model"])
    assert ended.exit_code == 0, ended.stderr
    assert ended.grown > 100
