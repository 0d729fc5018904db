"""From a ZeRO-3 checkpoint to safetensors: our converter against DeepSpeed's own.

python benchmarks/consolidate.py [--folder DIR] [--rounds N] [--json FILE]

Checkpoints: 4 ranks, fp32, one real training step on this CPU; a BERT of 157 million parameters,
and one of a third of it, which shows whether our memory grows with the model. They are made once
and kept where --folder says. DeepSpeed: what `zero_to_fp32.py --safe_serialization` does.

Every conversion has its own process and the sides alternate. Seconds are counted from where the
imports ended, memory is the peak of the whole process (ru_maxrss). Figures are medians over the
rounds, and so are ratios, each taken within a round. In the last round both results are compared.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

# What uses torch imports it late: ru_maxrss of a process begins with that of its parent.
from textassay.console import out, table

OURS, THEIRS = "ours", "deepspeed"
LARGE, SMALL = "large", "small"
RANKS = 4
SIZES: dict[str, dict[str, int]] = {
    LARGE: {"vocab_size": 92_000, "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072},
    SMALL: {"vocab_size": 30_522, "hidden_size": 512, "num_hidden_layers": 11,
            "num_attention_heads": 8, "intermediate_size": 2048},
}  # fmt: skip
SHARD = "5GB"


def made_checkpoint(folder: Path, size: str) -> Path:
    """The checkpoint of that size in the folder, trained where it is not there yet."""
    found = folder / size / "checkpoint-1"
    if (folder / size / "whole").exists():
        return found
    run([sys.executable, __file__, "--save_base", f"{folder / size}:{size}"])
    run([sys.executable, "-m", "torch.distributed.run", "--standalone",
         f"--nproc_per_node={RANKS}", __file__, "--train", str(folder / size)])  # fmt: skip
    (folder / size / "whole").touch()
    return found


def save_base(folder: Path, size: str) -> None:
    """A random model: under ZeRO-3 only `from_pretrained` builds one."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES[size], num_labels=3)
    transformers.BertForSequenceClassification(config).save_pretrained(folder / "base")


def train(folder: Path) -> None:
    """One rank's part of one step of training with ZeRO-3."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed
    import torch
    import transformers

    torch.set_num_threads(1)
    from textassay.training.zero import forgo_compiled_kernels

    forgo_compiled_kernels(torch.device("cpu"))
    settings = {
        "train_micro_batch_size_per_gpu": "auto",
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": 3},
    }
    arguments = transformers.TrainingArguments(
        str(folder), use_cpu=True, ddp_backend="gloo", deepspeed=settings, disable_tqdm=True,
        per_device_train_batch_size=1, max_steps=1, save_steps=1, report_to="none",
    )  # fmt: skip
    deepspeed.init_distributed(dist_backend="gloo")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "base")
    rows = [{"input_ids": torch.arange(9), "labels": index % 3} for index in range(RANKS)]
    transformers.Trainer(model, arguments, train_dataset=rows).train()
    torch.distributed.barrier()
    # A thread of gloo that outlives the interpreter may abort the process.
    os._exit(0)


def convert(side: str, checkpoint: Path, target: Path) -> dict[str, float]:
    """Seconds without imports, and this process's peak in bytes with everything."""
    import torch

    if side == OURS:
        from textassay.artifacts.zero.checkpoint import open_checkpoint
        from textassay.artifacts.zero.consolidate import consolidate, parse_size, plan_consolidation

        started = time.perf_counter()
        plan = plan_consolidation(open_checkpoint(checkpoint), None)
        consolidate(plan, target, torch.float32, parse_size(SHARD))
    else:
        from deepspeed.utils.zero_to_fp32 import convert_zero_checkpoint_to_state_dict

        started = time.perf_counter()
        convert_zero_checkpoint_to_state_dict(
            str(checkpoint), str(target), max_shard_size=SHARD, safe_serialization=True
        )
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "peak_bytes": peak}


def compare(target: Path, other: Path) -> int:
    """How many tensors are in both results, bit for bit the same; else an AssertionError."""
    import torch
    from safetensors import safe_open

    files = [safe_open(folder / "model.safetensors", "pt") for folder in (target, other)]
    names = sorted(files[0].keys())
    assert names == sorted(files[1].keys()), "the names differ"
    for name in names:
        ours, theirs = (file.get_tensor(name) for file in files)
        assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype, name
    return len(names)


def run(command: list[str]) -> str:
    """What a process prints; its errors end the benchmark."""
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def convert_apart(side: str, checkpoint: Path, target: Path) -> dict[str, float]:
    """`convert` in a process of its own; its seconds with imports are there, too."""
    started = time.perf_counter()
    said = run([sys.executable, __file__, "--one", f"{side}:{checkpoint}:{target}"])
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return {**found, "with_imports": time.perf_counter() - started}


Rounds = dict[str, list[dict[str, float]]]


def measure(checkpoint: Path, sides: tuple[str, ...], rounds: int) -> tuple[Rounds, int]:
    """Every side's figures of every round, and how many tensors were the same in the last."""
    found: Rounds = {side: [] for side in sides}
    same = 0
    for number in range(rounds):
        with tempfile.TemporaryDirectory(dir=checkpoint.parent) as scratch:
            targets = [Path(scratch) / side for side in sides]
            for side, target in zip(sides, targets, strict=True):
                found[side].append(convert_apart(side, checkpoint, target))
            if number == rounds - 1 and len(sides) == 2:
                places = ":".join(map(str, targets))
                same = int(run([sys.executable, __file__, "--compare", places]))
    return found, same


def median(rounds: Rounds, side: str, key: str) -> float:
    """The median of one side's figure over the rounds."""
    return statistics.median(one[key] for one in rounds[side])


def ratio(rounds: Rounds, key: str) -> float:
    """The median over the rounds of our figure divided by theirs."""
    pairs = zip(rounds[OURS], rounds[THEIRS], strict=True)
    return statistics.median(ours[key] / theirs[key] for ours, theirs in pairs)


def row(name: str, figures: dict[str, float]) -> tuple[str, ...]:
    """A line of the table."""
    seconds, whole = (f"{figures[key]:.2f} s" for key in ("seconds", "with_imports"))
    return name, seconds, whole, f"{figures['peak_bytes'] / 1e6:.0f} MB"


def show(found: dict[str, Rounds]) -> dict[str, Any]:
    """Print the table; medians and ratios."""
    results: dict[str, Any] = {}
    rows = []
    for size, rounds in found.items():
        for side in rounds:
            figures = {key: median(rounds, side, key) for key in rounds[side][0]}
            results[f"{size} {side}"] = figures
            rows.append(row(f"{size}, {side}", figures))
    both = found[LARGE]
    results["ratios"] = {key: ratio(both, key) for key in both[OURS][0]}
    seconds, whole, peak = (f"{results['ratios'][key]:.2f}"
                            for key in ("seconds", "with_imports", "peak_bytes"))  # fmt: skip
    rows.append(("large, ours / deepspeed", seconds, whole, peak))
    title = f"ZeRO-3, {RANKS} ranks, fp32, to safetensors"
    out().print(table(title, ("checkpoint, converter", "time", "with imports", "peak"), rows))
    return results


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), help="where checkpoints are kept")
@click.option("--rounds", default=5, help="times that each side is measured")
@click.option("--small/--no-small", default=True, help="measure ours on the small one, too")
@click.option("--save_base", "base", hidden=True, help="FOLDER:SIZE, in this process")
@click.option("--train", "trained", hidden=True, help="FOLDER, one rank of it in this process")
@click.option("--one", hidden=True, help="SIDE:CHECKPOINT:OUT, in this process, as JSON")
@click.option("--compare", "compared", hidden=True, help="OURS:THEIRS, in this process")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    folder: Path | None, rounds: int, small: bool, base: str | None, trained: str | None,
    one: str | None, compared: str | None, json_file: Path | None,
) -> None:  # fmt: skip
    """Measure and print seconds, peak memory and ratios."""
    if base:
        place, _, size = base.rpartition(":")
        save_base(Path(place), size)
    elif trained:
        train(Path(trained))
    elif one:
        side, checkpoint, target = one.split(":")
        print(json.dumps(convert(side, Path(checkpoint), Path(target))))
    elif compared:
        target, _, other = compared.partition(":")
        print(compare(Path(target), Path(other)))
    elif folder:
        benchmark(folder.resolve(), rounds, small, json_file)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            benchmark(Path(scratch), rounds, small, json_file)


def benchmark(folder: Path, rounds: int, small: bool, json_file: Path | None) -> None:
    """All of it: checkpoints, conversions, the table, and one line that sums them up."""
    checkpoints = {size: made_checkpoint(folder, size) for size in (LARGE, SMALL)[: 1 + small]}
    found = {}
    found[LARGE], same = measure(checkpoints[LARGE], (OURS, THEIRS), rounds)
    if small:
        found[SMALL], _ = measure(checkpoints[SMALL], (OURS,), rounds)
    results = show(found)
    line = (
        f"ratio: {results['ratios']['seconds']:.2f} of DeepSpeed's time and "
        f"{results['ratios']['peak_bytes']:.2f} of its peak memory; {same} tensors are the same"
    )
    from common import finish

    finish({**results, "rounds": found, "same_tensors": same}, line, json_file)


if __name__ == "__main__":
    main()
