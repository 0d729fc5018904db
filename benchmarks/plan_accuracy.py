"""What scripts/plan.py says of memory, against the peak that the kernel counts for the real run.

python benchmarks/plan_accuracy.py [--only WORD] [--json FILE]

Every configuration is planned by `scripts/plan.py --json -`, then trained for eight steps by its
own script, from rows to report, on this CPU. Measured is VmHWM, the highest resident memory of a
training process (of several the highest), less that of a process that only imports what the
training imports. The bar: planned is within 20% of measured, for each.

The larger models have their family's own config, random weights and a tokenizer made on the spot.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from textassay.console import out, table

SCRIPTS = Path(__file__).parents[1] / "scripts"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
WORDS = ["good", "bad", "film", "long", "short", "service", "food", "place", "nice", "warm"]
STEPS = 8
WITHIN = 0.2
POLL_SECONDS = 0.05
HIGHEST = re.compile(r"VmHWM:\s+(\d+) kB")
BERT = {"vocab_size": 30_522, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072}  # fmt: skip
LLAMA = {"vocab_size": 32_000, "hidden_size": 1024, "num_hidden_layers": 16,
         "num_attention_heads": 16, "num_key_value_heads": 8,
         "intermediate_size": 2816}  # fmt: skip
SIZES: dict[str, dict[str, int]] = {"bert": BERT, "llama": LLAMA}


@dataclass(frozen=True)
class Case:
    """A configuration: base, launcher, batch, length, and other flags."""

    base: str
    launcher: str
    batch: int
    length: int
    flags: list[str] = field(default_factory=list)
    processes: int = 1

    @property
    def name(self) -> str:
        """What stands in the table."""
        said = " ".join(flag.removeprefix("--").replace("=", " ") for flag in self.flags)
        return f"{self.base} {self.launcher}, {self.batch} rows of {self.length}, {said}"


ADAPTED = "--target_modules=query,value"
CASES = [
    Case("minilm", "full", 32, 128, ["--precision=fp32"]),
    Case("minilm", "full", 32, 128, ["--precision=bf16"]),
    Case("minilm", "full", 32, 128, ["--precision=fp32", "--gradient_checkpointing"]),
    Case("minilm", "full", 8, 512, ["--precision=bf16"]),
    Case("minilm", "lora", 64, 64, ["--precision=bf16", ADAPTED]),
    Case("minilm", "lora", 16, 256, ["--precision=fp32", ADAPTED, "--use_dora=true"]),
    Case("minilm", "lora", 32, 128, ["--precision=bf16", "--method=bottleneck"]),
    Case("minilm", "lora", 32, 128, ["--precision=bf16", ADAPTED, "--load_in_4bit=true"]),
    Case("bert", "full", 8, 128, ["--precision=fp32"]),
    Case("bert", "lora", 32, 128, ["--precision=bf16", ADAPTED]),
    Case("llama", "full", 8, 128, ["--precision=bf16", "--gradient_checkpointing"]),
    Case("llama", "lora", 8, 128, ["--precision=bf16"]),
    Case("bert", "deepspeed", 8, 128, ["--precision=fp32", "--method=full"], processes=2),
    Case("bert", "deepspeed", 8, 128, ["--precision=bf16", "--method=full"], processes=2),
    Case("minilm", "deepspeed", 32, 128, ["--precision=fp32", "--method=full"], processes=2),
    Case("llama", "deepspeed", 4, 128, ["--precision=bf16", "--method=full"], processes=2),
    Case("bert", "deepspeed", 16, 128, ["--precision=bf16", ADAPTED], processes=2),
    Case("bert", "deepspeed", 8, 128, ["--precision=fp32", "--method=full", "--zero_stage=2"],
         processes=2),
]  # fmt: skip


def make_base(folder: Path, family: str) -> None:
    """A random model with a tokenizer that knows WORDS."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]",
               "sep_token": "[SEP]"}  # fmt: skip
    vocabulary = {word: index for index, word in enumerate([*special.values(), *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.save_pretrained(folder)
    kind, config = {
        "bert": (transformers.BertForMaskedLM, transformers.BertConfig),
        "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig),
    }[family]
    kind(config(**SIZES[family], pad_token_id=0)).save_pretrained(folder)


def write_rows(path: Path, count: int, words: int) -> None:
    """Rows of so many words, every one longer than any length here."""
    draw = random.Random(path.name)
    lines = [f"{' '.join(draw.choices(WORDS, k=words))},{'yes' if row % 2 else 'no'}\n"
             for row in range(count)]  # fmt: skip
    path.write_text("text,label\n" + "".join(lines))


def flags_of(case: Case, folder: Path) -> list[str]:
    """The flags of plan and training alike."""
    files = []
    for split, count in (("train", STEPS * case.batch * case.processes), ("validation", 16),
                         ("test", 16)):  # fmt: skip
        write_rows(folder / f"{split}.csv", count, case.length + 9)
        files.append(f"--{split}_file={folder / split}.csv")
    base = MINILM if case.base == "minilm" else str(folder.parent / case.base)
    return [
        *files, f"--model_name_or_path={base}", f"--max_seq_length={case.length}",
        f"--per_device_train_batch_size={case.batch}",
        "--num_train_epochs=1", "--baselines=false", "--bootstrap_samples=100", "--device=cpu",
        "--method=full" if case.launcher == "full" else "--method=lora", *case.flags,
    ]  # fmt: skip


def planned(case: Case, flags: list[str]) -> dict[str, Any]:
    """What the plan says of one process."""
    job = Path(flags[0].partition("=")[2]).with_name("job.yaml")
    job.write_text(f"launcher: {case.launcher}\n")
    command = [sys.executable, str(SCRIPTS / "plan.py"), str(job), *flags, "--json=-",
               *([f"--world_size={case.processes}"] if case.processes > 1 else [])]  # fmt: skip
    plan: dict[str, Any] = json.loads(_said(command))[0]
    return plan


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def only_imports(launcher: str) -> int:
    """The peak in bytes of a process that imports what the launcher's script does."""
    zero = "import deepspeed\n" if launcher == "deepspeed" else ""
    code = f"{zero}import textassay.training.run\nprint(open('/proc/self/status').read())"
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=environment, check=True)  # fmt: skip
    return _highest(done.stdout)


def trained(case: Case, flags: list[str], folder: Path) -> int:
    """The peak in bytes of the training process, watched from outside until it ends."""
    script = str(SCRIPTS / f"train_{case.launcher}.py")
    launch = ["-m", "textassay.training.launch", str(case.processes)]
    command = [sys.executable, *(launch if case.processes > 1 else []), script, *flags,
               f"--output_dir={folder / 'run'}"]  # fmt: skip
    log = folder / "log.txt"
    highest = 0
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
        while process.poll() is None:
            for status in _processes_of(process.pid, script):
                highest = max(highest, _highest(status))
            time.sleep(POLL_SECONDS)
    if process.returncode:
        raise SystemExit(f"{case.name}: {log.read_text()[-2000:]}")
    return highest


def _processes_of(pid: int, script: str) -> list[str]:
    """The status of this process and its children, those that carry out the script itself."""
    found = []
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for number in [str(pid), *_read(children).split()]:
        told = _read(Path(f"/proc/{number}/cmdline")).split("\0")
        if len(told) > 1 and told[1] == script:
            found.append(_read(Path(f"/proc/{number}/status")))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""


def _highest(status: str) -> int:
    match = HIGHEST.search(status)
    return int(match[1]) * 1024 if match else 0


def compare(case: Case, folder: Path) -> dict[str, Any]:
    """One configuration, planned and measured."""
    folder.mkdir(parents=True)
    flags = flags_of(case, folder)
    plan = planned(case, flags)
    imports = only_imports(case.launcher)
    measured = trained(case, flags, folder) - imports
    return {"name": case.name, "planned": plan["need"]["peak"], "measured": measured,
            "imports": imports, "ratio": plan["need"]["peak"] / measured, "plan": plan}  # fmt: skip


@click.command()
@click.option("--only", default="", help="configurations with this word in their name")
@click.option("--make_base", "made", hidden=True, help="FOLDER:FAMILY, in this process")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(only: str, made: str | None, json_file: Path | None) -> None:
    """Plan and measure every configuration, and print the table."""
    if made:
        place, _, family = made.rpartition(":")
        make_base(Path(place), family)
        return
    found = []
    cases = [case for case in CASES if only in case.name]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TEXTASSAY_CACHE"] = f"{scratch}/cache"
        os.environ["HF_HUB_OFFLINE"] = "1"
        for family in {case.base for case in cases} - {"minilm"}:
            _said([sys.executable, __file__, f"--make_base={scratch}/{family}:{family}"])
        for number, case in enumerate(cases):
            found.append(compare(case, Path(scratch) / f"case-{number}"))
            print(_row(found[-1]), file=sys.stderr)
    columns = ("configuration", "planned", "measured", "ratio")
    title = "peak memory of a process, imports left out"
    out().print(table(title, columns, [_row(one) for one in found]))
    worst = max(abs(one["ratio"] - 1) for one in found)
    from common import finish

    finish({"cases": found}, f"{len(found)} configurations, the worst {worst:.0%} off", json_file)
    raise SystemExit(0 if worst <= WITHIN else 1)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    sizes = [f"{one[key] / 1e6:,.0f} MB" for key in ("planned", "measured")]
    return one["name"], *sizes, f"{one['ratio']:.2f}"


if __name__ == "__main__":
    main()
