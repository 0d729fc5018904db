"""A plan as people read it, and as JSON."""

import json
import warnings
from pathlib import Path

import transformers

from textassay.config.flags import RESUME
from textassay.config.runs import Run
from textassay.console import counted, out, table, tell, warn
from textassay.errors import visible
from textassay.files import write_text
from textassay.planning.memory import MOST_ROWS
from textassay.planning.plan import Ask, Plan, make_plan, parse_memory


def plan_jobs(
    jobs: list[tuple[Path | None, list[Run]]], overrides: list[str], memory: str | None,
    world_size: int | None, measure: bool, json_file: Path | None,
) -> None:  # fmt: skip
    """Plan each job and print it, or write all plans as a list in JSON (`-`: standard output)."""
    warnings.simplefilter("ignore")  # the libraries' chatter, as in a run
    transformers.logging.set_verbosity_error()
    ask = Ask(parse_memory(memory) if memory else None, world_size, measure)
    flags = [flag for flag in overrides if not flag.startswith(RESUME)]
    plans = [make_plan(job_file, runs, flags, ask) for job_file, runs in jobs]
    if str(json_file) != "-":
        for plan in plans:
            show(plan)
    if json_file:
        text = json.dumps([plan.to_json() for plan in plans], indent=2, ensure_ascii=False) + "\n"
        if str(json_file) == "-":
            print(visible(text), end="")
        else:
            write_text(json_file, text)


def show(plan: Plan) -> None:
    """Print a plan: a table of memory, then the rest line by line."""
    place = plan.place
    several = len(plan.seeds) > 1
    seeds = counted(len(plan.seeds), "seed") if several else f"seed {plan.seeds[0]}"
    tell(f"job        {plan.job}: {seeds}, each a run like this")
    tell(f"model      {plan.model}")
    tell(f"method     {plan.method}: {plan.trainable:,} of {plan.parameters:,} parameters train")
    cut = f", ZeRO stage {plan.zero['zero_stage']}" if plan.zero else ""
    many = counted(place.processes, "process")
    tell(f"place      {place.device}, {place.precision}, {many}{cut}")
    tell(f"batch      {counted(plan.batch, 'row')} of {plan.length} tokens a process")
    _show_memory(plan)
    disk = plan.disk
    beside = f", {size(disk.beside)} beside it" if disk.beside else ""
    tell(
        f"disk       {size(disk.total())} a run: checkpoints of {size(disk.checkpoint)}, at most "
        f"{size(disk.checkpoints)} at once; the artifact {size(disk.artifact)}{beside}"
    )
    if plan.memory and plan.largest_batch is not None:
        more = " or more" if plan.largest_batch == MOST_ROWS else ""
        rows = f"{counted(plan.largest_batch, 'row')}{more} a process"
        fits = rows if plan.largest_batch else "not even one row"
        tell(f"fits       {size(plan.memory)}: {fits}")
    if plan.trial:
        trial = plan.trial
        tell(f"time       {clock(trial.seconds())} a run on this machine: "
             f"{counted(trial.steps, 'step')} of "
             f"{trial.seconds_a_step:.2f} s ({trial.steps_tried} tried), {trial.evaluations} "
             f"evaluations of {trial.seconds_evaluating / trial.evaluations:.1f} s")  # fmt: skip
    tell(f"submit     {plan.submit}")
    for note in plan.notes:
        warn(note)


def _show_memory(plan: Plan) -> None:
    need = plan.need
    parts = [("weights", need.weights), ("gathered for a step", need.gathered),
             ("gradients", need.gradients), ("optimizer states", need.states),
             ("activations, at their peak", need.activations),
             ("tensors of an evaluation", need.evaluating)]  # fmt: skip
    if plan.place.device != "cpu":
        parts.append(("the artifact, read back at the end", need.artifact))
    parts.append(("all tensors, at their peak", need.live))
    rows = [
        (name, size(number)) for name, number in parts if number or name != "gathered for a step"
    ]
    if plan.place.device == "cpu":
        rows.append(("the heap they lie in", size(need.heap)))
        rows.append(("the artifact, mapped to be read back", size(need.artifact)))
        rows.append(("with Python and its libraries", size(need.peak + plan.libraries)))
    if need.offloaded:
        rows.append(("offloaded to the CPU's memory", size(need.offloaded)))
    rows.append(("a node (--mem), with a margin", size(plan.node_memory)))
    out().print(table("memory of a process", ["what", "size"], rows))


def size(number: int) -> str:
    """Bytes as people say them: 1,234 MB, 24 GB."""
    if number < 10**6:
        return f"{number / 1e3:.0f} kB"
    return f"{number / 1e6:,.0f} MB" if number < 10**10 else f"{number / 1e9:,.1f} GB"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
