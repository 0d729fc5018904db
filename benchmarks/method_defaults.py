"""What every launcher and method learns with nothing but its defaults.

python benchmarks/method_defaults.py FILE --real_data DIR [--ways 'lora;full'] [--data 'sst2;r8']
python benchmarks/method_defaults.py FILE --table
python benchmarks/method_defaults.py FILE --compare

Each run is the command that a user gives (scripts/train_lora.py and its siblings) on MiniLM, with
the data, `--method` and what PEFT demands for it, and nothing else. Each adds one line of JSON to
FILE; a run whose line is there is not repeated, so that the benchmark can be stopped and started.
--table prints what FILE holds as Markdown.

With --rates each way is run with other learning rates. --compare prints them with their scores on
the validation rows, which alone may choose a default; --table shows the test scores of the defaults
only, also where a rate was named that is the default by now.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click
import yaml
from common import machine

from textassay.config.rates import DEFAULT_RATES
from textassay.config.schema import METHODS
from textassay.files import project_root, read_json
from textassay.interpreter import python_command

Line = dict[str, Any]
LORA = {"method": "lora"}
VARIANTS: dict[str, dict[str, str]] = {
    "lora": LORA,
    "lora, DoRA": {**LORA, "use_dora": "true"},
    "lora, rsLoRA": {**LORA, "use_rslora": "true"},
    "lora, PiSSA": {**LORA, "init_lora_weights": "pissa"},
    "lora, QLoRA": {**LORA, "load_in_4bit": "true"},
}
# What PEFT has no default for, or one that does not fit a width of 384.
DEMANDED = {
    "adalora": {"total_step": "200"},
    "c3a": {"block_size": "128"},
    "ln_tuning": {"target_modules": "LayerNorm"},
    "p_tuning": {"num_virtual_tokens": "20"},
    "prefix_tuning": {"num_virtual_tokens": "20"},
    "prompt_tuning": {"num_virtual_tokens": "20"},
    "vblora": {"vector_length": "128"},
}
# They do not classify with an encoder: their message says so before anything is trained.
NOT_HERE = {
    "adaption_prompt", "cartridge", "cpt", "multitask_prompt_tuning", "poly", "shadow",
    "trainable_tokens", "xlora",
}  # fmt: skip
OTHERS = {name: {"method": name, **DEMANDED.get(name, {})}
          for name in sorted(METHODS) if name != "lora" and name not in NOT_HERE}  # fmt: skip
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "full": ("full", {}),
    "full, ZeRO-3": ("deepspeed", {"method": "full"}),
    **{name: ("lora", flags) for name, flags in {**VARIANTS, **OTHERS}.items()},
}
DATA = {"sentiment5_en": {"test_size": "0.2"}, "sst2": {}, "r8": {}}


def run_once(way: str, flags: dict[str, str], folder: Path) -> Line:
    """One command; its exit code, and what it wrote of itself."""
    launcher, method = WAYS[way]
    script = project_root() / "scripts" / f"train_{launcher}.py"
    given = {**method, **flags, "output_dir": str(folder)}
    done = subprocess.run(
        python_command(str(script), *(f"--{name}={value}" for name, value in given.items())),
        capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    said = (done.stderr or done.stdout).strip()
    if done.returncode == 2:
        return {"exit": 2, "error": said[-600:]}
    if done.returncode not in (0, 3):
        raise click.ClickException(f"{way}: exit code {done.returncode}: {said[-2000:]}")
    if launcher == "deepspeed":
        evaluator = python_command(str(project_root() / "scripts" / "evaluate.py"), str(folder))
        subprocess.run(evaluator, check=True, capture_output=True)
    return {"exit": done.returncode, **figures_of(folder)}


def figures_of(folder: Path) -> Line:
    """What a finished run reached: rows, steps, and macro-F1 with its interval."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    trained = read_json(folder / "train_results.json")
    validated, tested = (read_json(folder / f"{name}_results.json") for name in ("eval", "test"))
    baselines = {found["name"]: found for found in tested["baselines"]}
    ahead = baselines["TF-IDF"]["ahead"]["macro_f1"]
    return {
        "learning_rate": config["training"]["learning_rate"],
        "rows": read_json(folder / "provenance.json")["data"]["rows"],
        "steps": trained["global_step"],
        "best": trained["best_checkpoint"],
        "seconds": trained["train_wall_seconds"],
        "learned": validated["learning"]["learned"],
        "validation": validated["eval_macro_f1"],
        "test": [tested["test_macro_f1"], *tested["intervals"]["macro_f1"]],
        "tfidf": baselines["TF-IDF"]["scores"]["macro_f1"]["value"],
        "majority": baselines["majority"]["scores"]["macro_f1"]["value"],
        "ahead": [ahead["value"], ahead["low"], ahead["high"]],
    }


def key_of(line: Line) -> tuple[Any, ...]:
    """What makes a line the answer to one question."""
    return line["data"], line["way"], line["max_samples"], line["rate"]


def read_lines(file: Path) -> list[Line]:
    """The lines that are there already."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [json.loads(line) for line in text.splitlines()]


def measure(file: Path, asked: Line, flags: dict[str, str]) -> None:
    """Add one line to the file, unless its answer is there."""
    if key_of(asked) in map(key_of, read_lines(file)):
        return
    if asked["max_samples"]:
        flags = {**flags, "max_samples": str(asked["max_samples"])}
    if asked["rate"]:
        flags = {**flags, "learning_rate": str(asked["rate"])}
    with tempfile.TemporaryDirectory() as folder:
        found = run_once(asked["way"], flags, Path(folder) / "run")
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({**asked, **found, "machine": machine()}) + "\n")


def table(lines: list[Line]) -> str:
    """What the defaults reached, in Markdown, data set by data set."""
    rows = ["| data, training rows | method | learning rate | learned | validation macro-F1 "
            "| test macro-F1 | against TF-IDF |",
            "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    return "\n".join(rows + [describe(line) for line in in_order(lines) if is_default(line)])


def in_order(lines: list[Line]) -> list[Line]:
    """By data set, rows and way, without what was refused."""
    data, ways = list(DATA), list(WAYS)
    return sorted((line for line in lines if "error" not in line), key=lambda line: (
        data.index(line["data"]), -line["rows"]["train"], ways.index(line["way"]),
        line["learning_rate"]))  # fmt: skip


def is_default(line: Line) -> bool:
    """Whether it ran at its method's default learning rate of now."""
    launcher, flags = WAYS[line["way"]]
    rate: float = line["learning_rate"]
    return rate == DEFAULT_RATES[flags.get("method", launcher)]


def describe(line: Line) -> str:
    """The row of one line."""
    gain, low, high = line["ahead"]
    verdict = "better" if low > 0 else "worse" if high < 0 else "no detectable difference"
    score, lowest, highest = line["test"]
    return (
        f"| {line['data']}, {line['rows']['train']:,} | {line['way']} | {line['learning_rate']:g} "
        f"| {line['learned']} | {line['validation']:.3f} "
        f"| {score:.3f} [{lowest:.3f}, {highest:.3f}] | {verdict} ({gain:+.3f}) |"
    )


def comparison(lines: list[Line]) -> str:
    """Every rate that was tried, with its validation score."""
    return "\n".join(f"{line['data']:<14} {line['way']:<16} {line['learning_rate']:<8g} "
                     f"{line['validation']:.3f}" for line in in_order(lines))  # fmt: skip


def split_list(context: click.Context, option: click.Parameter, value: str) -> list[str]:
    """`a;b` as a list; the names of ways have commas."""
    return [part.strip() for part in value.split(";") if part.strip()]


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--real_data", type=click.Path(path_type=Path, exists=True), help="holds sst2, r8")
@click.option("--ways", default=";".join(WAYS), callback=split_list, help="separated by ;")
@click.option("--data", default="sentiment5_en", callback=split_list, help="separated by ;")
@click.option("--max_samples", type=int, help="at most so many rows of each split")
@click.option(
    "--rates", default="", callback=split_list, help="learning rates instead of the default"
)
@click.option("--table", "shown", flag_value="table", help="print what FILE holds")
@click.option("--compare", "shown", flag_value="compare", help="print rates and validation scores")
def main(
    file: Path,
    real_data: Path | None,
    ways: list[str],
    data: list[str],
    max_samples: int | None,
    rates: list[str],
    shown: str | None,
) -> None:
    """Run what FILE has no line for, or show its lines."""
    if shown:
        print((table if shown == "table" else comparison)(read_lines(file)))
        return
    if unknown := (set(ways) - WAYS.keys()) | (set(data) - DATA.keys()):
        raise click.UsageError(f"unknown: {', '.join(unknown)}; known are {'; '.join(WAYS)}")
    for name in data:
        flags = {"data_name": name, **DATA[name]}
        if name != "sentiment5_en":
            if not real_data:
                raise click.UsageError(f"{name} is not in the project; name --real_data")
            flags["data_path"] = str(real_data / name)
        for way in ways:
            for rate in map(float, rates) if rates else [None]:
                asked = {"data": name, "way": way, "max_samples": max_samples, "rate": rate}
                measure(file, asked, flags)


if __name__ == "__main__":
    main()
