"""The emotion trainer's `.env`, unchanged: its commands, its adapter, its files."""

import csv
import json
import math
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from tests.commands_for_tests import ALLOW_UNLEARNED, Command, command, go_offline
from tests.config.test_emotion_env import DOCUMENTED
from tests.fork_server import python
from tests.models_for_tests import tiny_bert

import textassay
from textassay.artifacts.hallmark import verify
from textassay.artifacts.kinds import load_artifact
from textassay.files import project_root, read_json

EMOTIONS = [
    "高兴", "厌恶", "害羞", "害怕", "生气", "认真", "紧张", "慌张", "疑惑", "兴奋", "无奈", "担心",
    "惊讶", "哭泣", "心动", "难为情", "自信", "调皮", "平静",
]  # fmt: skip
NEW = "嫉妒"
ROWS_A_LABEL = 6
PROMISED = [
    "adapter/adapter_model.safetensors", "adapter/adapter_config.json", "config.json",
    "model.safetensors", "tokenizer_config.json", "vocab.txt", "label_mapping.json",
    "combined_finetune_config.json",
]  # fmt: skip
# Rank and alpha: rsLoRA's part names query and value, DoRA's query, key, value and dense.
AS_DOCUMENTED = {
    "attention.self.query": (16, 32), "attention.self.value": (16, 32),
    "attention.self.key": (8, 16), "attention.output.dense": (8, 16),
    "intermediate.dense": (8, 16), "output.dense": (8, 16),
}  # fmt: skip
# The emotion trainer's names in the environment of the process: nobody may look there.
DECOYS = {
    "DATA_PATH": "/nowhere", "MODEL_NAME": "/nowhere", "DEVICE": "tpu", "DORA_R": "99",
    "RSLORA_R": "99", "FINAL_MODEL_DIR": "decoy", "OUTPUT_DIR_BASE": "decoy", "MAX_LENGTH": "1",
    "TARGET_EMOTIONS": "x,y", "USE_RSLORA": "false",
}  # fmt: skip


@dataclass
class Done:
    """A command that was carried out in `folder`."""

    folder: Path
    code: int
    out: str
    err: str

    @property
    def run(self) -> Path:
        """The directory of its only run."""
        return self.folder / "output" / "emotion_data_manual" / "seed-0"

    @property
    def final(self) -> Path:
        """The directory that FINAL_MODEL_DIR names."""
        return self.folder / "final_model"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """Six rows of each emotion of the sample data."""
    path = project_root() / "data" / "samples" / "emotion19_zh.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        of_label: dict[str, list[dict[str, str]]] = {}
        for row in csv.DictReader(stream):
            of_label.setdefault(row["label"], []).append(row)
    assert set(of_label) == set(EMOTIONS)
    return [row for label in EMOTIONS for row in of_label[label][:ROWS_A_LABEL]]


@pytest.fixture(scope="module")
def base(rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT that knows the sample's characters."""
    return tiny_bert(tmp_path_factory.mktemp("base"), [row["text"] for row in rows], 128)


def prepare(folder: Path, rows: list[dict[str, str]], base: Path, **changes: str) -> None:
    """Data and `.env` in a folder; a change to nothing leaves a line out."""
    (folder / "data").mkdir()
    with (folder / "data" / "emotion_data_manual.csv").open("w", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["text", "label"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    values = {"MODEL_NAME": str(base), "MAX_LENGTH": "32", "NUM_TRAIN_EPOCHS": "1",
              "TARGET_EMOTIONS": ",".join(EMOTIONS), **changes}  # fmt: skip
    kept = [line for line in DOCUMENTED.splitlines() if line.partition("=")[0] not in values]
    kept += [f"{name}={value}" for name, value in values.items() if value]
    (folder / ".env").write_text("\n".join(kept) + "\n", encoding="utf-8")


def carry_out(folder: Path, *arguments: str) -> Done:
    """A command as a user types it, with decoys in its environment."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "TEXTASSAY_PYTHON": python(),
        "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", ALLOW_UNLEARNED: "true", **DECOYS,
    }  # fmt: skip
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return Done(folder, done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def trained(
    rows: list[dict[str, str]], base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """`python scripts/train_lora.py --env_file .env`, with the old names of weights as well."""
    folder = tmp_path_factory.mktemp("lora")
    prepare(
        folder, rows, base, LEARNING_RATE="1e-2", SMTP_HOST="mail",
        TEXTASSAY_ARTIFACT__SAVE_BIN="true", TEXTASSAY_EVALUATION__BASELINES="false",
    )  # fmt: skip
    script = project_root() / "scripts" / "train_lora.py"
    done = carry_out(folder, python(), str(script), "--env_file", ".env")
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def batched(
    rows: list[dict[str, str]], base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """`bash train.sh --env_file .env`, without TARGET_EMOTIONS, with rows of a new emotion."""
    folder = tmp_path_factory.mktemp("batch")
    new = [{"text": f"{row['text']}他很羡慕", "label": NEW} for row in rows[:ROWS_A_LABEL]]
    prepare(folder, [*rows, *new], base, TARGET_EMOTIONS="")
    done = carry_out(folder, "bash", str(project_root() / "train.sh"), "--env_file", ".env")
    assert done.code == 0, done.err
    return done


def adapted(folder: Path) -> dict[str, Any]:
    """The layers that the adapter in `folder` changes, by their names in a BERT."""
    config = transformers.AutoConfig.from_pretrained(folder)
    base = read_json(folder / "adapter_config.json")["base_model_name_or_path"]
    model = transformers.BertForSequenceClassification.from_pretrained(base, config=config)
    wrapped = PeftModel.from_pretrained(model, folder)
    found = {name.removeprefix("base_model.model."): module
             for name, module in wrapped.named_modules() if hasattr(module, "lora_A")}  # fmt: skip
    assert found
    return found


@pytest.mark.slow
def test_each_module_has_rank_alpha_and_scaling_of_the_group_that_names_it(trained: Done) -> None:
    modules = adapted(trained.run / "model")
    wanted = {f"bert.encoder.layer.{n}.{name}": sizes
              for n in (0, 1) for name, sizes in AS_DOCUMENTED.items()}  # fmt: skip
    assert modules.keys() == wanted.keys(), "and so not the pooler's"
    for name, module in modules.items():
        r, alpha = wanted[name]
        assert module.lora_A["default"].weight.shape[0] == r == module.r["default"], name
        assert module.lora_B["default"].weight.shape[1] == r, name
        assert module.lora_alpha["default"] == alpha, name
        assert module.scaling["default"] == pytest.approx(alpha / math.sqrt(r)), name
        assert module.lora_dropout["default"].p == 0.1, name
        magnitudes = module.lora_magnitude_vector["default"].weight
        assert magnitudes.shape == (module.out_features,), name


@pytest.mark.slow
def test_every_part_of_the_adapter_has_moved(trained: Done) -> None:
    modules = adapted(trained.run / "model")
    for name, module in modules.items():
        assert module.lora_B["default"].weight.abs().max() > 0, name
        norms = module.get_base_layer().weight.norm(dim=1)
        assert not torch.equal(module.lora_magnitude_vector["default"].weight, norms), name


@pytest.mark.slow
def test_what_cannot_be_honoured_is_printed_and_training_counted(trained: Done) -> None:
    said = " ".join(trained.err.split())
    for part in (
        "RSLORA_DROPOUT 0.1 applies everywhere, DORA_DROPOUT 0.9 nowhere",
        "suspicious",
        "named in both parts, so of rank 16 and alpha 32 (rsLoRA's): query, value",
        "rsLoRA's scaling apply to every module",
        "the pooler is left as it is",
        "not read: SMTP_HOST",
    ):
        assert part in said
    assert re.search(r"[\d,]+ of [\d,]+ parameters train \(\d+\.\d+%\)", said)
    assert "/nowhere" not in said and not (trained.folder / "decoy").exists()


@pytest.mark.slow
def test_the_promised_files_are_there_under_both_names(trained: Done, batched: Done) -> None:
    for name in PROMISED:
        assert (trained.final / name).is_file() and (batched.final / name).is_file(), name
    for safe, old in (("adapter/adapter_model.safetensors", "adapter/adapter_model.bin"),
                      ("model.safetensors", "pytorch_model.bin")):  # fmt: skip
        assert not (batched.final / old).exists()
        tensors = load_file(trained.final / safe)
        stored = torch.load(trained.final / old, weights_only=True)
        assert stored.keys() == tensors.keys()
        assert all(torch.equal(stored[key], tensors[key]) for key in tensors)
    assert "probe rows within" in verify(trained.final)
    vocabulary = (trained.final / "vocab.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained.final)
    assert tokenizer.convert_tokens_to_ids(vocabulary) == list(range(len(tokenizer)))


@pytest.mark.slow
def test_the_label_map_is_that_of_target_emotions(trained: Done) -> None:
    for folder in (trained.final, trained.run, trained.run / "model"):
        mapping = read_json(folder / "label_mapping.json")
        assert mapping["label2id"] == {name: index for index, name in enumerate(EMOTIONS)}
        assert mapping["id2label"] == {str(index): name for index, name in enumerate(EMOTIONS)}
    config = read_json(trained.final / "config.json")
    assert list(config["id2label"].values()) == EMOTIONS


@pytest.mark.slow
def test_the_method_is_written_down(trained: Done, base: Path) -> None:
    written = read_json(trained.final / "combined_finetune_config.json")
    assert written["base_model"] == str(base) and written["max_length"] == 32
    assert (written["learning_rate"], written["num_train_epochs"]) == (1e-2, 1)
    assert written["per_device_train_batch_size"] == 16
    assert written["per_device_eval_batch_size"] == 32
    method = written["method"]
    assert method["use_dora"] and method["use_rslora"] and method["r"] == 16


@pytest.mark.slow
def test_the_merged_model_computes_what_the_adapter_does(
    trained: Done, rows: list[dict[str, str]]
) -> None:
    texts = [row["text"] for row in rows[::5]]
    classifier = textassay.Classifier.load(trained.run / "model")
    wanted = classifier.logits(texts)
    merged = trained.final
    model = transformers.AutoModelForSequenceClassification.from_pretrained(merged).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(merged)
    encoded = tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
    with torch.no_grad():
        found = model(**encoded).logits.numpy()
    assert not hasattr(model, "peft_config")
    assert abs(found - wanted).max() < 1e-4
    assert abs(textassay.Classifier.load(trained.final).logits(texts) - wanted).max() < 1e-4
    adapter = load_artifact(trained.run / "model")
    with adapter.model.disable_adapter():
        without = adapter.logits(adapter.ids(texts))
    assert abs(without - wanted).max() > 1e-2, "the adapter does nothing"


@pytest.mark.slow
def test_a_new_emotion_needs_new_rows_and_nothing_else(batched: Done) -> None:
    labels = read_json(batched.final / "label_mapping.json")["label2id"]
    assert labels.keys() == {*EMOTIONS, NEW}
    assert textassay.Classifier.load(batched.final).predict("今天很好")["label"] in labels


@pytest.mark.slow
def test_train_sh_sums_up_and_knows_what_is_finished(batched: Done) -> None:
    assert "seed 0" in batched.out and "TF-IDF" in batched.out
    assert (batched.folder / "output" / "emotion_data_manual" / "summary.html").is_file()
    again = carry_out(
        batched.folder, "bash", str(project_root() / "train.sh"), "--env_file", ".env"
    )
    assert again.code == 0 and "is finished" in again.err


def refusal(result: Any, code: int) -> str:
    """The one paragraph after the notes on the file; and nothing was written."""
    assert isinstance(result.exception, SystemExit) and result.exit_code == code, result.output
    *notes, error = result.stderr.splitlines()
    assert all(note.startswith("note: .env: ") for note in notes), notes
    assert error.startswith("error: ") and result.stdout == ""
    assert {path.name for path in Path().iterdir()} <= {"data", ".env", "caches"}
    return str(error)


@pytest.fixture
def train(
    rows: list[dict[str, str]], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """train(NAME=value, …): scripts/train_lora.py with a changed `.env`, in this process."""
    monkeypatch.chdir(tmp_path)
    go_offline(monkeypatch, tmp_path / "caches")
    call: Command = command("train_lora", base)

    def run(more: list[dict[str, str]] | None = None, **changes: str) -> Any:
        prepare(tmp_path, [*rows, *(more or [])], base, **changes)
        return call("--env_file", ".env", "--output_dir", "out")

    return run


def test_an_emotion_that_is_not_among_the_targets_is_bad_data(train: Callable[..., Any]) -> None:
    said = refusal(train([{"text": f"他很羡慕{n}", "label": NEW} for n in range(6)]), 65)
    named = re.search(rf"data/emotion_data_manual\.csv, line (\d+): the label '{NEW}'", said)
    first = len(EMOTIONS) * ROWS_A_LABEL + 2
    assert named and first <= int(named[1]) < first + 6
    assert "TARGET_EMOTIONS" in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"DORA_R": "eight"}, "DORA_R is 'eight'"),
        ({"RSLORA_DROPOUT": "10%"}, "RSLORA_DROPOUT is '10%'"),
        ({"DORA_R": "0"}, "r"),
        ({"LEARNING_RATE": "fast"}, "learning_rate"),
        ({"DEVICE": "tpu"}, "device"),
        ({"DORA_TARGET_MODULES": "nothing", "USE_RSLORA": "false"}, "query"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_value_that_cannot_be_is_one_paragraph(
    changes: dict[str, str], says: str, train: Callable[..., Any]
) -> None:
    assert says in refusal(train(**changes), 2)


def test_a_final_directory_that_is_full_is_refused(train: Callable[..., Any]) -> None:
    Path("final_model").mkdir()
    Path("final_model/theirs.txt").write_text("mine")
    result = train()
    assert result.exit_code == 2 and "final_model is not empty" in result.stderr
    assert Path("final_model/theirs.txt").read_text() == "mine"
