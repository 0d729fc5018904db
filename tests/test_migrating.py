"""Every command of docs/migrating.md, as it stands there, with tiny models and data."""

import csv
import importlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from tests.commands_for_tests import go_offline
from tests.config.test_emotion_env import DOCUMENTED
from tests.models_for_tests import tiny_bert, tiny_gpt2, tiny_llama, tiny_qwen2
from tests.test_docs import ROOT, rows

from textassay import console
from textassay.artifacts.hallmark import verify
from textassay.commands.group import NAMES
from textassay.files import read_json
from textassay.training import batch

PAGE = ROOT / "docs" / "migrating.md"
SYSTEMS = ["emotion trainer", "Weibo", "LLM classification", "Qwen", "Yelp stars"]
STEPS = 2
# What the shell scripts start.
SHELL = {"train.sh": "train_batch", "eval.sh": "evaluate"}
# Not on the page: what makes a run small. The environment ranks above a job and below a flag.
SMALL = {
    "TEXTASSAY_TRAINING__MAX_STEPS": str(STEPS),
    "TEXTASSAY_TRAINING__PER_DEVICE_TRAIN_BATCH_SIZE": "4",
    "TEXTASSAY_TRAINING__PRECISION": "fp32",
    "TEXTASSAY_DATA__MAX_SAMPLES": "20",
    "TEXTASSAY_MODEL__MAX_SEQ_LENGTH": "256",
    "TEXTASSAY_EVALUATION__BOOTSTRAP_SAMPLES": "100",
    "TEXTASSAY_EVALUATION__BASELINES": "false",
    "TEXTASSAY_EVALUATION__PROBE_ROWS": "2",
    "TEXTASSAY_RESOURCES__DEVICE": "cpu",
}
TEXTS = {
    "en": ["a warm film about ships and grain", "a dull report on crude oil", "prices rose again"],
    "zh": ["这家店的菜很好吃", "房间太小了服务也不好", "今天的天气真不错"],
}


def commands(system: str) -> list[str]:
    """The commands that the page has for a system, in its order."""
    found: dict[str, list[str]] = {}
    current = ""
    for _, cells in rows(PAGE.read_text(encoding="utf-8")):
        if len(cells) == 4 and cells[2].startswith("`"):
            current = cells[0] or current
            found.setdefault(current, []).append(cells[2].strip("`"))
    assert list(found) == SYSTEMS
    return found[system]


def test_the_page_has_every_job_and_every_script_that_exists() -> None:
    text = " ".join(command for system in SYSTEMS for command in commands(system))
    named = set(re.findall(r"[\w./]+\.(?:yaml|py|sh)", text))
    assert {"train.sh", "eval.sh"} <= named
    assert all((ROOT / name).is_file() for name in named)
    called = set(re.findall(r"textassay (\S+)", text))
    assert {"clean", "compare", "train-full", "train-lora"} <= called <= set(NAMES)
    assert sum(len(commands(system)) for system in SYSTEMS) == 22


@pytest.fixture
def carry_out(monkeypatch: pytest.MonkeyPatch, verified_here: None) -> Callable[[str], str]:
    """carry_out(command): what it printed. It runs in this process, which has torch."""

    def call(*tokens: str) -> Any:
        name = SHELL.get(tokens[0], tokens[0]).replace("-", "_")
        main: click.Command = importlib.import_module(f"textassay.commands.{name}").main
        console.out.cache_clear()
        console.err.cache_clear()
        return CliRunner().invoke(main, list(tokens[1:]))

    start = subprocess.run

    def launch(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """A process that train.sh would start; others, such as git, are started."""
        if arguments[0] != sys.executable or "textassay.training.launch" in arguments:
            return start(arguments, **options)
        assert arguments[1:3] == ["-P", "-m"]
        result = call(arguments[3].rpartition(".")[2], *arguments[4:])
        assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
        return subprocess.CompletedProcess(arguments, 0, result.stdout, result.stderr)

    monkeypatch.setattr(subprocess, "run", launch)
    monkeypatch.setattr(batch, "run_passing_on", lambda command: launch(command).returncode)

    def run(command: str) -> str:
        program, *tokens = shlex.split(command)
        assert program == ("bash" if tokens[0] in SHELL else "textassay")
        result = call(*tokens)
        assert result.exit_code == 0, f"{command}: {result.output} {result.exception!r}"
        return str(result.output)

    return run


@pytest.fixture
def scratch(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An empty project folder with the jobs in it; settings that make every run small."""
    monkeypatch.chdir(tmp_path)
    go_offline(monkeypatch, tmp_path_factory.mktemp("caches"))
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    return tmp_path


def labelled(labels: list[Any], language: str, text: str = "text") -> list[dict[str, Any]]:
    """Eight rows a label, every text once."""
    return [{text: f"{TEXTS[language][n % 3]} {chr(97 + n)} {label}", "label": label}
            for label in labels for n in range(8)]  # fmt: skip


def write_csv(path: Path, content: list[dict[str, Any]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(content[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(content)


def assert_finished(folder: Path, merged: bool = False) -> dict[str, Any]:
    """A run that was carried out, as docs/outputs.md promises; its train_results."""
    for name in ("finished.json", "test_results.json", "test_summary.txt", "predictions.parquet",
                 "report.html", "confusion_matrix.png", "label_mapping.json"):  # fmt: skip
        assert (folder / name).is_file(), folder / name
    assert "probe rows within" in verify(folder / "model")
    assert (folder / "merged").is_dir() is merged
    figures: dict[str, Any] = read_json(folder / "train_results.json")
    assert figures["global_step"] == STEPS
    return figures


def assert_summed_up(job: str, seeds: tuple[int, ...] = (0, 42, 123), merged: bool = False) -> None:
    for seed in seeds:
        assert_finished(Path("runs") / job / f"seed-{seed}", merged)
    summary = read_json(Path("runs") / job / "summary.json")
    assert [entry["seed"] for entry in summary["seeds"]] == list(seeds)


@pytest.mark.slow
def test_the_emotion_trainers_commands(
    scratch: Path, carry_out: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = labelled(["高兴", "厌恶", "害羞"], "zh")
    write_csv(Path("emotion_data_manual.csv"), [*data, data[0]])
    base = tiny_bert(scratch / "base", [row["text"] for row in data], 256)
    env = DOCUMENTED.replace("data/emotion", "emotion")
    env = env.replace("google-bert/bert-base-chinese", str(base))
    Path(".env").write_text(env, encoding="utf-8")
    clean, by_file, by_job = commands("emotion trainer")

    assert "duplicate" in carry_out(clean)
    assert len(Path("clean.csv").read_text(encoding="utf-8").splitlines()) == len(data) + 1
    assert "DORA_DROPOUT 0.9 nowhere" in carry_out(by_file)
    assert_finished(Path("output/emotion_data_manual/seed-0"), merged=True)
    assert Path("final_model/pytorch_model.bin").exists() is False
    assert Path("final_model/combined_finetune_config.json").is_file()

    monkeypatch.setenv("TEXTASSAY_MODEL__MODEL_NAME_OR_PATH", str(base))
    carry_out(by_job)
    assert_summed_up("emotion19_bert_dora_rslora", merged=True)


@pytest.mark.slow
def test_the_weibo_systems_commands(
    scratch: Path, carry_out: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [{"label": row["label"], "review": f"{row['text']}[哈哈]"}
            for row in labelled([0, 1], "zh")]  # fmt: skip
    write_csv(Path("weibo_senti_100k.csv"), data)
    texts = [row["review"] for row in data]
    gpt2, bert = tiny_gpt2(scratch / "gpt2", texts, 256), tiny_bert(scratch / "bert", texts, 256)
    *training, mask = commands("Weibo")
    for job, base, command in zip(
        ("weibo_gpt2_adapter", "weibo_gpt2_lora", "weibo_bert_full"), (gpt2, gpt2, bert), training,
        strict=True,
    ):  # fmt: skip
        monkeypatch.setenv("TEXTASSAY_MODEL__MODEL_NAME_OR_PATH", str(base))
        carry_out(command)
        assert_summed_up(job)
    targets = read_json(Path("runs/weibo_gpt2_lora/seed-0/model/adapter_config.json"))
    assert set(targets["target_modules"]) == {"attn.c_attn", "attn.c_proj"}
    assert Path("runs/weibo_bert_full/seed-0/model/model.safetensors").is_file()

    carry_out(mask)
    assert "哈哈" not in Path("masked.csv").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_llm_systems_commands(
    scratch: Path, carry_out: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sst2 = labelled([0, 1], "en", "sentence")
    for split, part in (("train", sst2[::2]), ("dev", sst2[1::4]), ("test", sst2[3::4])):
        path = Path("data/datasets/sst2/data") / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(part))
    topics = ["acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade"]
    r8, folder = labelled(topics, "en"), Path("data/datasets/r8/data")
    folder.mkdir(parents=True)
    for split, part in (("train", [*r8[::4], *r8[1::4], *r8[2::4]]), ("test", r8[3::4])):
        pq.write_table(pa.Table.from_pylist(part), folder / f"{split}-00000-of-00001.parquet")
    Path("sets").mkdir()
    for name in ("sst2", "r8"):
        Path("sets", name).symlink_to(scratch / "data" / "datasets" / name / "data")
    monkeypatch.setenv("TEXTASSAY_DATA_DIR", str(scratch / "sets"))
    prompt = "Please carefully read the following reference text and determine which of these"
    base = tiny_llama(scratch / "base", [prompt, *(row["text"] for row in r8)], 256)
    monkeypatch.setenv("TEXTASSAY_MODEL__MODEL_NAME_OR_PATH", str(base))
    full, lora, everything, one_seed, zero, evaluator = commands("LLM classification")

    carry_out(full)
    assert_finished(Path("runs/trial_full"))
    carry_out(lora)
    assert_finished(Path("runs/trial_lora"))
    assert read_json(Path("runs/trial_lora/model/config.json"))["textassay"]["head"] == "mlp"
    carry_out(one_seed)
    assert_finished(Path("runs/r8_llama_lora/seed-42"))
    stamp = Path("runs/r8_llama_lora/seed-42/finished.json")
    before = stamp.read_text()
    carry_out(everything)
    for job in ("sst2_llama_full", "sst2_llama_lora", "r8_llama_full", "r8_llama_lora"):
        assert_summed_up(job)
    assert "trade" in read_json(Path("runs/r8_llama_full/seed-0/label_mapping.json"))["label2id"]
    assert stamp.read_text() == before, "a finished run is left alone"

    pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")
    assert "not tested yet: bash eval.sh" in carry_out(zero)
    assert not Path("runs/sst2_llama_deepspeed/seed-42/test_results.json").exists()
    assert "what       run" in carry_out(evaluator)
    assert read_json(Path("evaluated/test_results.json"))["test_rows"] == 4


@pytest.mark.slow
def test_the_qwen_systems_commands(
    scratch: Path, carry_out: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = labelled([0, 1], "zh", "text_a")
    for split, part in (("train", data[::2]), ("dev", data[1::4]), ("test", data[3::4])):
        write_csv(Path("sets") / f"{split}.tsv", part, "\t")
    base = tiny_qwen2(scratch / "base", [row["text_a"] for row in data], 256, 64)
    monkeypatch.setenv("TEXTASSAY_MODEL__MODEL_NAME_OR_PATH", str(base))
    monkeypatch.setenv("TEXTASSAY_DATA__PATH", "sets")
    plain, qlora, r16, small, auto, named, none = commands("Qwen")
    run = Path("runs/chnsenticorp_qwen_lora/seed-0")

    carry_out(plain)
    assert_finished(run)
    carry_out(r16)
    assert_finished(Path("runs/r16"))
    config = read_json(Path("runs/r16/model/adapter_config.json"))
    assert (config["r"], config["lora_alpha"]) == (16, 32)
    carry_out(small)
    assert_finished(Path("runs/small"))
    assert "gradient_checkpointing: true" in Path("runs/small/config.yaml").read_text()

    assert "is finished" in carry_out(auto)
    for command, resumed in ((auto, True), (named, True), (none, False)):
        (run / "finished.json").unlink()  # as if it had been killed
        said = carry_out(command.replace("checkpoint-500", f"checkpoint-{STEPS}"))
        assert (f"from checkpoint-{STEPS}" in said) is resumed
        assert_finished(run)

    pytest.importorskip("bitsandbytes")
    assert "base in 4 bits" in carry_out(qlora)
    assert_finished(Path("runs/qlora"))


@pytest.mark.slow
def test_the_yelp_systems_commands(
    scratch: Path, carry_out: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = labelled([0, 1, 2, 3, 4], "en")
    write_csv(Path("yelp/train.csv"), [row for n, row in enumerate(data) if n % 4])
    write_csv(Path("yelp/test.csv"), data[::4])
    base = tiny_bert(scratch / "base", [row["text"] for row in data], 256)
    monkeypatch.setenv("TEXTASSAY_MODEL__MODEL_NAME_OR_PATH", str(base))
    monkeypatch.setenv("TEXTASSAY_DATA__PATH", "yelp")
    training, comparison = commands("Yelp stars")

    carry_out(training)
    assert_summed_up("yelp5_bert_lora")
    said = carry_out(comparison)
    assert "random head" in said and "gain" in said and "TF-IDF" in said
    for name in ("comparison.json", "comparison.md", "comparison.png"):
        assert Path("comparison", name).is_file()
