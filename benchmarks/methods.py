"""Speed and peak memory of the tuning methods on a CPU: our pipeline against plain libraries.

python benchmarks/methods.py --data_path DIR [--json FILE]

plain: AutoModelForSequenceClassification, PEFT and the transformers Trainer with bf16=True, batches
of 32 grouped by length and padded to their longest. Ours: what a run builds from the same settings.
The bottleneck is ours, PEFT has none, so it stands alone.

Model: MiniLM; rows: one epoch over the same rows of SST-2. Every measurement has its own process,
whose peak resident memory is counted from where its imports ended. The sides alternate for several
rounds; figures are medians over the rounds, and so are ratios, each taken within a round. The last
line is about a step of DoRA in steps of LoRA, both without dropout: dropout makes DoRA multiply
every weight twice.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch
import transformers
from common import finish
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from textassay.config.load import resolve_job
from textassay.config.runs import Run
from textassay.config.schema import Job
from textassay.data.encode import encode
from textassay.data.load import load_dataset
from textassay.models import cpu
from textassay.models.classifier import load_tokenizer
from textassay.models.source import find_model
from textassay.training.setup import assemble
from textassay.training.trainer import build_trainer

OURS, PLAIN = "ours", "plain"
HEAD = ["pooler.dense", "classifier"]
LORA = {
    "method.name": "lora", "method.r": "8", "method.lora_alpha": "16", "method.lora_dropout": "0.1",
    "method.target_modules": "query,key,value,intermediate.dense,output.dense",
    "method.modules_to_save": "pooler.dense",
}  # fmt: skip
DORA = {**LORA, "method.use_dora": "true"}
NO_DROPOUT = {"method.lora_dropout": "0"}
BOTTLENECK = {
    "method.name": "bottleneck",
    "method.bottleneck_size": "64",
    "method.modules_to_save": "pooler.dense",
}
METHODS: dict[str, dict[str, str]] = {
    "full": {"launcher": "full", "method.name": "full"},
    "lora": LORA,
    "rslora": {**LORA, "method.use_rslora": "true"},
    "dora": DORA,
    "qlora": {**LORA, "model.load_in_4bit": "true"},
    "bottleneck": BOTTLENECK,
    "lora_no_dropout": {**LORA, **NO_DROPOUT},
    "dora_no_dropout": {**DORA, **NO_DROPOUT},
}


def measure(side: str, method: str, data_path: str, rows: int) -> dict[str, float]:
    """Samples a second of one epoch, without building, and this process's peak in bytes."""
    imported = peak_bytes()
    flags = {
        "data.name": "sst2", "data.path": data_path, "data.max_samples": str(rows),
        "training.num_train_epochs": "1", "resources.device": "cpu", **METHODS[method],
    }  # fmt: skip
    job, _ = resolve_job(None, None, {}, flags, None)
    with tempfile.TemporaryDirectory() as folder:
        trainer = {OURS: our_trainer, PLAIN: plain_trainer}[side](job, Path(folder))
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    trained = len(trainer.train_dataset)
    return {"samples_per_second": trained / seconds, "peak_bytes": peak_bytes() - imported}


def our_trainer(job: Job, folder: Path) -> Trainer:
    """As a run builds it, but it neither evaluates nor saves."""
    setup = assemble(Run(job, 0, folder))
    rows = {split: setup.encoded(split) for split in ("train", "validation")}
    cpu.speed_up(setup.model, setup.precision)
    setup.arguments.eval_strategy = setup.arguments.save_strategy = "no"
    return build_trainer(setup.model, setup.tokenizer, rows, setup.arguments, job.training, "")


def plain_trainer(job: Job, folder: Path) -> Trainer:
    """The same settings in plain transformers and PEFT; only rows and token ids come from us."""
    path = find_model(job.model.model_name_or_path).path
    tokenizer = load_tokenizer(str(path), job.model.max_seq_length)
    dataset = load_dataset(job.data)
    rows = encode(
        dataset.splits["train"], tokenizer, dataset.labels, job.model.max_seq_length, None
    )
    transformers.set_seed(0)
    training = job.training
    arguments = TrainingArguments(
        output_dir=str(folder), seed=0, use_cpu=True, bf16=True, report_to="none",
        per_device_train_batch_size=training.per_device_train_batch_size, num_train_epochs=1,
        learning_rate=training.learning_rate, warmup_steps=training.warmup_steps,
        weight_decay=training.weight_decay, train_sampling_strategy="group_by_length",
        save_strategy="no", disable_tqdm=True, logging_strategy="no", label_names=["labels"],
    )  # fmt: skip
    return Trainer(
        model=plain_model(job, path, len(dataset.labels)),
        args=arguments,
        train_dataset=rows.select_columns(["input_ids", "labels"]),
        data_collator=DataCollatorWithPadding(tokenizer),
    )


def plain_model(job: Job, path: Path, labels: int) -> Any:
    """The model as the libraries' own documentation sets it up for the method."""
    quantized = {}
    if job.model.load_in_4bit:
        bits = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16, llm_int8_skip_modules=HEAD,
        )  # fmt: skip
        quantized = {"quantization_config": bits, "device_map": "cpu"}
    model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=labels, **quantized)
    if quantized:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if job.method.name == "full":
        return model
    settings = {**job.method.settings(), "modules_to_save": HEAD}
    return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", **settings))


def peak_bytes() -> int:
    """The highest resident memory of this process so far.

    VmHWM, since ru_maxrss starts at the memory of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure_apart(side: str, method: str, data_path: str, rows: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--data_path", data_path, "--rows", str(rows),
         "--one", f"{side}:{method}"],
        capture_output=True, text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{side} {method}: {done.stderr.strip()[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


Rounds = dict[str, list[dict[str, float]]]


def median(rounds: Rounds, side: str, key: str) -> float:
    """The median of one side's figure over the rounds."""
    return statistics.median(one[key] for one in rounds[side])


def ratio(rounds: Rounds, others: Rounds, sides: tuple[str, str], key: str) -> float:
    """The median over the rounds of a figure divided by another's of the same round."""
    pairs = zip(rounds[sides[0]], others[sides[1]], strict=True)
    return statistics.median(one[key] / other[key] for one, other in pairs)


def show(method: str, rounds: Rounds) -> dict[str, Any]:
    """Print one method's line; its medians and ratios."""
    figures: dict[str, Any] = {
        side: {key: median(rounds, side, key) for key in ("samples_per_second", "peak_bytes")}
        for side in rounds
    }
    words = [f"{side} {found['samples_per_second']:6.1f} samples a second "
             f"{found['peak_bytes'] / 1e6:5.0f} MB" for side, found in figures.items()]  # fmt: skip
    if PLAIN in rounds:
        figures["speed_ratio"] = ratio(rounds, rounds, (OURS, PLAIN), "samples_per_second")
        figures["memory_ratio"] = ratio(rounds, rounds, (OURS, PLAIN), "peak_bytes")
        words.append(f"speed {figures['speed_ratio']:.2f} memory {figures['memory_ratio']:.2f}")
    else:
        words.append("no plain counterpart")
    print(f"{method:<16} {'   '.join(words)}", flush=True)
    return figures


def default_data() -> str:
    """SST-2 in the folder that the tests use too."""
    if "TEXTASSAY_REAL_DATA" not in os.environ:
        raise click.UsageError("name --data_path, or set TEXTASSAY_REAL_DATA")
    return str(Path(os.environ["TEXTASSAY_REAL_DATA"]) / "sst2")


@click.command()
@click.option("--data_path", default=default_data, help="the folder of SST-2")
@click.option("--methods", default=",".join(METHODS), help="which, separated by commas")
@click.option("--rounds", default=3, help="times that each side is measured")
@click.option("--rows", default=1600, help="training rows, one epoch over them")
@click.option("--one", hidden=True, help="SIDE:METHOD, measured in this process, as JSON")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    data_path: str, methods: str, rounds: int, rows: int, one: str | None, json_file: Path | None
) -> None:
    """Measure and print samples a second, peak memory and ratios."""
    transformers.logging.set_verbosity_error()
    if one:
        side, _, method = one.partition(":")
        print(json.dumps(measure(side, method, data_path, rows)))
        return
    wanted = [name.strip() for name in methods.split(",")]
    if unknown := set(wanted) - METHODS.keys():
        raise click.UsageError(f"--methods: {', '.join(unknown)}; known are {', '.join(METHODS)}")
    found: dict[str, Rounds] = {}
    for _ in range(rounds):
        for method in wanted:
            for side in (OURS, PLAIN) if METHODS[method] is not BOTTLENECK else (OURS,):
                figures = measure_apart(side, method, data_path, rows)
                found.setdefault(method, {}).setdefault(side, []).append(figures)
    results: dict[str, Any] = {method: show(method, them) for method, them in found.items()}
    line = f"rounds: {rounds}"
    if {"lora_no_dropout", "dora_no_dropout"} <= found.keys():
        lora, dora = found["lora_no_dropout"], found["dora_no_dropout"]
        steps = {side: ratio(lora, dora, (side, side), "samples_per_second")
                 for side in (OURS, PLAIN)}  # fmt: skip
        results["dora_step_over_lora_step"] = steps
        line = f"ratio: a DoRA step is {steps[OURS]:.2f} LoRA steps, {steps[PLAIN]:.2f} in PEFT"
    finish({"methods": results, "rounds": found}, line, json_file)


if __name__ == "__main__":
    main()
