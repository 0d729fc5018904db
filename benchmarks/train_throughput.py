"""Training speed on a CPU: ours against the transformers Trainer as people set it up.

python benchmarks/train_throughput.py --data_path DIR [--json FILE]

(a) as its text-classification example does: padded to 128, fp32, batch 8;
(b) padded to the longest of the batch, fp32, our batch size;
ours: length-grouped, bf16 where the CPU has it, cheaper dropout masks, frozen weights rounded once.

Same model (MiniLM), method (LoRA r 8 on query and value, dropout 0.1), learning rate and rows
(SST-2). Speed: the three sides alternate for several rounds; samples a second, medians. Accuracy:
the validation rows after whole trainings with three seeds, of (b) and ours ((a) does the same
arithmetic as (b) at another batch size).
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import transformers
from common import finish
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from textassay.config.load import resolve_job
from textassay.config.runs import Run
from textassay.data.encode import encode
from textassay.data.load import load_dataset
from textassay.evaluation.metrics import Score, score
from textassay.models import cpu
from textassay.models.classifier import build_classifier, load_tokenizer
from textassay.models.device import find_precision
from textassay.models.methods import attach
from textassay.models.predict import compute_logits
from textassay.models.source import find_model
from textassay.training.arguments import training_arguments
from textassay.training.trainer import build_trainer

CPU = torch.device("cpu")
SIDES = ("ours", "a", "b")
RECIPE = {
    "method.r": "8", "method.lora_alpha": "16", "method.lora_dropout": "0.1",
    "method.target_modules": "query,value", "training.learning_rate": "1e-3",
    "training.num_train_epochs": "3",
}  # fmt: skip


class Side:
    """One way to train the same model on the same rows."""

    def __init__(self, name: str, run: Run, dataset: Any) -> None:
        self.name, self.run, self.dataset = name, run, dataset
        self.batch = 8 if name == "a" else run.job.training.per_device_train_batch_size

    def trainer(self, folder: str, max_steps: int = -1) -> Trainer:
        """A fresh trainer; with `max_steps` it neither evaluates nor saves."""
        transformers.set_seed(self.run.seed)
        job = self.run.job
        base = find_model(job.model.model_name_or_path)
        built = build_classifier(base, self.dataset.labels, job.model, None)
        model = attach(built, job.method, base.name)
        rows = {
            split: encode(self.dataset.splits[split], built.tokenizer, self.dataset.labels,
                          job.model.max_seq_length, None)
            for split in ("train", "validation")
        }  # fmt: skip
        if self.name == "ours":
            precision = find_precision("auto", CPU)
            cpu.speed_up(model, precision)
            arguments = training_arguments(self.run, CPU, precision)
            arguments.output_dir, arguments.max_steps = folder, max_steps
            arguments.eval_strategy = arguments.save_strategy = "no"
            return build_trainer(model, built.tokenizer, rows, arguments, job.training, "")
        return self._plain(model, built.tokenizer, rows["train"], folder, max_steps)

    def _plain(self, model: Any, tokenizer: Any, rows: Any, folder: str, max_steps: int) -> Trainer:
        training = self.run.job.training
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=self.batch, max_steps=max_steps,
            num_train_epochs=training.num_train_epochs, learning_rate=training.learning_rate,
            warmup_steps=training.warmup_steps, weight_decay=training.weight_decay,
            seed=self.run.seed, use_cpu=True, report_to="none", save_strategy="no",
            disable_tqdm=True, logging_strategy="no", label_names=["labels"],
        )  # fmt: skip
        padding = {"padding": "max_length", "max_length": 128} if self.name == "a" else {}
        return Trainer(
            model=model,
            args=arguments,
            train_dataset=rows.select_columns(["input_ids", "labels"]),
            data_collator=DataCollatorWithPadding(tokenizer, **padding),
        )

    def samples_per_second(self) -> float:
        """Over about half a minute of steps, without building model and trainer.

        Ours gets a whole epoch, so that its batches have the lengths of the data, neither the short
        ones alone nor the long ones.
        """
        rows = len(self.dataset.splits["train"])
        steps = {"ours": rows // self.batch, "a": 60, "b": 40}[self.name]
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(folder, steps)
            started = time.perf_counter()
            trainer.train()
            return steps * self.batch / (time.perf_counter() - started)

    def accuracy(self) -> Score:
        """Validation accuracy after the whole training."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(folder)
            trainer.train()
            table = self.dataset.splits["validation"]
            rows = encode(table, trainer.processing_class or _tokenizer(self.run),
                          self.dataset.labels, self.run.job.model.max_seq_length, None)  # fmt: skip
            precision = find_precision("auto", CPU) if self.name == "ours" else "fp32"
            ids = rows.data["input_ids"].to_pylist()
            logits = compute_logits(trainer.model, ids, 0, precision=precision)
            truth = np.array(self.dataset.labels.ids(table["label"].to_pylist()))
            return score(truth, logits)["accuracy"]


def _tokenizer(run: Run) -> Any:
    path = find_model(run.job.model.model_name_or_path).path
    return load_tokenizer(str(path), run.job.model.max_seq_length)


@click.command()
@click.option("--data_path", required=True, help="the folder of SST-2, with train and dev")
@click.option("--rounds", default=5, help="times that each side is measured")
@click.option("--seeds", default="0,42,123", help="for the accuracies; empty to leave them out")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(data_path: str, rounds: int, seeds: str, json_file: Path | None) -> None:
    """Measure and print samples a second, accuracies and ratios."""
    transformers.logging.set_verbosity_error()
    job_file = Path(__file__).parents[1] / "jobs" / "sst2_minilm_lora.yaml"
    job, _ = resolve_job(job_file, None, {}, {**RECIPE, "data.path": data_path}, "lora")
    dataset = load_dataset(job.data)
    sides = {name: Side(name, Run(job, 0, Path("unused")), dataset) for name in SIDES}
    speeds: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, side in sides.items():
            speeds[name].append(side.samples_per_second())
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    for name, found in speeds.items():
        print(f"{name:<5} {medians[name]:7.1f} samples a second  (rounds: "
              f"{', '.join(f'{one:.0f}' for one in found)})")  # fmt: skip
    accuracies: dict[str, list[Any]] = {"ours": [], "b": []}
    for seed in [int(part) for part in seeds.split(",") if part]:
        for name, found_scores in accuracies.items():
            one = Side(name, Run(job, seed, Path("unused")), dataset).accuracy()
            found_scores.append([one.value, one.low, one.high])
            print(
                f"{name:<5} seed {seed}: accuracy {one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"
            )
    ratios = {"over_a": medians["ours"] / medians["a"], "over_b": medians["ours"] / medians["b"]}
    results = {"samples_per_second": medians, "rounds": speeds, "accuracy": accuracies, **ratios}
    finish(results, f"ratio: {ratios['over_a']:.1f} times (a), {ratios['over_b']:.1f} times (b)",
           json_file)  # fmt: skip


if __name__ == "__main__":
    main()
