"""From a job to its plan: what `textassay plan` prints."""

import re
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from textassay.cluster.resources import sbatch_flags
from textassay.config.runs import Run
from textassay.config.schema import Job
from textassay.console import counted
from textassay.errors import UsageError
from textassay.planning.disk import Disk, disk_of
from textassay.planning.measure import Trial, measure
from textassay.planning.memory import (
    LIBRARIES,
    ZERO_ON_A_CPU,
    Footprint,
    Need,
    Place,
    find_place,
    footprint,
    largest_batch,
)
from textassay.planning.rows import known_rows
from textassay.planning.skeleton import build, find_config, tokenizer_in

SIZE = re.compile(r"(\d+(?:\.\d+)?) *([KMGT]?)(i?)B?", re.IGNORECASE)
POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
GIB = 2**30
# On top of what is planned for the memory of a node: a plan is within a fifth of what is measured.
MARGIN = 1.2
# What one more process takes for itself, weights left out: 280 MB the one that starts a run under
# Slurm, 330 MB the one that verifies its artifact (the quickstart on two cores, 2026-11-27).
BESIDE_A_RUN = 300 * 10**6
# A process that drives a GPU holds the CUDA libraries as well. Not measured by us.
DRIVING_A_GPU = 4 * 10**9


@dataclass(frozen=True)
class Ask:
    """What is asked beside the job."""

    memory: int | None = None
    world_size: int | None = None
    measure: bool = False


@dataclass(frozen=True)
class Plan:
    """What the runs of a job need, each of them alike. Bytes, rows, tokens, seconds.

    `node_memory` is that of all processes on one node, with a margin: Slurm's --mem.
    """

    job: str
    seeds: list[int]
    launcher: str
    method: str
    model: str
    place: Place
    zero: dict[str, Any] | None
    parameters: int
    trainable: int
    batch: int
    length: int
    need: Need
    libraries: int
    node_memory: int
    disk: Disk
    memory: int | None
    largest_batch: int | None
    trial: Trial | None
    submit: str
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All of it by name."""
        return asdict(self)


def make_plan(job_file: Path | None, runs: list[Run], flags: list[str], ask: Ask) -> Plan:
    """The plan for the runs of one job. `flags` are those that were given beside the job file.

    UsageError with what is missing where the base's config is not here.
    """
    job = runs[0].job
    _refuse_processes(job, ask)
    folder = find_config(_base_of(job), job.model.revision)
    place, notes = find_place(job, ask.world_size)
    tokenizer = tokenizer_in(folder, job.model.max_seq_length)
    rows = known_rows(job, tokenizer)
    model = build(job, folder, rows.labels, tokenizer)
    seen = footprint(job, model, rows, place)
    batch = min(job.training.per_device_train_batch_size, rows.train or 2**31)
    need = seen.need(batch)
    fitting = largest_batch(seen, ask.memory) if ask.memory else None
    notes += [*rows.notes, *_doubts(job, place, need), *_limits(job, seen, fitting)]
    node = _node_memory(job, seen, need)
    zero = job.deepspeed.model_dump() if job.launcher == "deepspeed" else None
    return Plan(
        job.name, job.seeds, job.launcher, _method(job), job.model.model_name_or_path, place, zero,
        seen.parameters[1], seen.parameters[0], batch, rows.longest, need, LIBRARIES, node,
        disk_of(job, seen), ask.memory, fitting, measure(runs[0]) if ask.measure else None,
        submit_line(job, job_file, flags, place, node, ask.world_size), notes,
    )  # fmt: skip


def parse_memory(text: str) -> int:
    """Bytes for 24GB, 24G or 22.5GiB. UsageError for anything else."""
    match = SIZE.fullmatch(text.strip())
    if not match or not float(match[1]):
        raise UsageError(f"--memory: {text!r} is no size; write it as 24GB, or as 24GiB.")
    power = POWERS[match[2].upper()]
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def submit_line(
    job: Job, job_file: Path | None, flags: list[str], place: Place, node: int,
    world_size: int | None = None,
) -> str:  # fmt: skip
    """The command that submits the job; the job's own resources need no flag.

    A `world_size` that was asked for takes their place.
    """
    said = {flag.partition("=")[0] for flag in sbatch_flags(job)}
    on_a_node = place.processes // job.resources.nodes
    proposed = {"--mem": f"{-(-node // GIB)}G"}
    if place.device == "cuda":
        proposed = {"--gpus-per-node": str(on_a_node), **proposed}
    if world_size and place.device == "cuda":
        said.discard("--gpus-per-node")
    if world_size and (place.device == "cpu" or job.resources.nproc_per_node):
        flags = [*flags, f"--nproc_per_node={on_a_node}"]
    sbatch = [f"{flag}={value}" for flag, value in proposed.items() if flag not in said]
    behind = ["--", *flags] if flags else []
    return shlex.join(["bash", "slurm/submit.sh", str(job_file or "JOB.yaml"), *sbatch, *behind])


def _refuse_processes(job: Job, ask: Ask) -> None:
    if (ask.world_size or 1) > 1 and job.launcher != "deepspeed":
        raise UsageError(
            f"--world_size: the launcher {job.launcher} is one process, not {ask.world_size}; "
            "plan for the deepspeed launcher, or leave it out."
        )
    if ask.world_size and ask.world_size % job.resources.nodes:
        raise UsageError(
            f"--world_size: {counted(ask.world_size, 'process')} cannot be spread evenly over "
            f"{job.resources.nodes} nodes (resources.nodes); name a multiple, or other nodes."
        )


def _base_of(job: Job) -> str:
    if job.distillation.student_layers:
        raise UsageError(
            "distillation.student_layers: the student is cut out of its teacher only when the run "
            "begins; plan a job whose model.model_name_or_path is a model of its size."
        )
    return job.model.model_name_or_path


def _method(job: Job) -> str:
    settings = job.method.settings()
    named = "dora" if settings.get("use_dora") else job.method.name
    return f"{named}, base in 4 bits" if job.model.load_in_4bit else named


def _node_memory(job: Job, seen: Footprint, need: Need) -> int:
    """With a margin, all processes of a node: on a CPU they hold everything.

    Beside them are the one that started them and, at the end, the one that verifies the artifact.
    """
    per_node = -(-seen.place.processes // job.resources.nodes)
    if seen.place.device == "cpu":
        each = LIBRARIES + need.peak
    else:  # weights are read, and put together, in the CPU's memory
        each = DRIVING_A_GPU + 2 * sum(seen.built) + need.offloaded
    if seen.is_zero and seen.place.device == "cpu":
        each = int(each * ZERO_ON_A_CPU)
    return int(MARGIN * (per_node * each + 2 * BESIDE_A_RUN + seen.saved_bytes()))


def _doubts(job: Job, place: Place, need: Need) -> list[str]:
    """What the plan leaves out."""
    notes = []
    if place.device == "cuda":
        notes.append(
            "figures for a GPU are of tensors alone; the CUDA context and PyTorch's allocator come "
            "on top, and no GPU was there to measure them"
        )
    elif job.resources.device == "auto":
        notes.append(
            "planned for this machine's CPU, since it has no GPU; --device cuda plans for one that "
            "is elsewhere, --device cpu also submits so"
        )
    if need.is_guessed:
        notes.append(
            "the heap is a guess, twice its tensors, since malloc cannot be asked: that takes "
            "glibc 2.33 or newer, and a machine that could promise so much memory"
        )
    if place.device == "cpu" and job.launcher == "deepspeed":
        notes.append(
            "DeepSpeed's processes on a CPU were seen to take up to 1.3 times the memory that is "
            "planned; --mem and --memory leave room for it"
        )
    if job.distillation.teacher:
        notes.append("the teacher, which answers all rows before the training, is not counted")
    if job.deepspeed.config_file and job.launcher == "deepspeed":
        notes.append(
            f"{job.deepspeed.config_file} is not read: planned is ZeRO stage "
            f"{job.deepspeed.zero_stage} as the job's own settings make it"
        )
    return notes


def _limits(job: Job, seen: Footprint, fitting: int | None) -> list[str]:
    """What else than the batch keeps a run from fitting."""
    need = seen.need(1)
    if fitting != 0 or need.evaluating <= need.activations:
        return []
    return [
        f"an evaluation takes more than a step of one row; it has "
        f"{counted(seen.rows_in_evaluation, 'row')}, "
        "and fewer are had with --per_device_eval_batch_size"
    ]
