"""The memory of one process of a run, as a function of the rows in its batch."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from textassay.config.schema import Job
from textassay.errors import UsageError, first_line
from textassay.models.classifier import count_parameters
from textassay.models.device import has_bf16
from textassay.models.predict import PRECISIONS, autocast
from textassay.planning.heap import FREED, Event, Layout, heap_size
from textassay.planning.rows import Rows
from textassay.planning.skeleton import prepare, without_content
from textassay.planning.states import (
    FP32,
    Shares,
    Tensor,
    alone,
    cut_by_zero,
    parameters_of,
)
from textassay.planning.watch import Events, Watched, evaluation_step, training_step
from textassay.training.arguments import optimizer_in_4_bits

# Python, torch, transformers and all that a run imports, resident on Linux: 575 MB as measured by
# benchmarks/plan_accuracy.py, and what is imported only on the way.
LIBRARIES = 620 * 10**6


@dataclass(frozen=True)
class Place:
    """Where a run trains: device, precision and number of processes."""

    device: str
    precision: str
    processes: int


@dataclass(frozen=True)
class Need:
    """Bytes of one process. `peak` is on its device while it trains, imports left out.

    `activations` are there at their own peak, before gradients are, and what is `evaluating` takes
    the place of both; so the parts need not add up.
    `live` is the peak of tensors alone. On a CPU they lie in the `heap`, which is what the process
    has grown to when the artifact is read back at the end; the file that it is read from is
    `mapped` into memory beside it.
    """

    weights: int
    gradients: int
    states: int
    gathered: int
    activations: int
    evaluating: int
    live: int
    heap: int
    mapped: int
    peak: int
    offloaded: int


@dataclass(frozen=True)
class Footprint:
    """A run's model, seen once; `need` answers for any number of rows.

    `evaluation` is that of the Trainer, `answering` the artifact's, which is in fp32.
    """

    place: Place
    is_zero: bool
    parameters: tuple[int, int]
    built: list[int]
    tensors: list[Tensor]
    shares: Shares
    step: Watched
    evaluation: Watched
    answering: Watched
    rows_in_evaluation: int
    # malloc's answers differ by a hundredth or two, and a plan must not contradict itself.
    _known: dict[int, Need] = field(default_factory=dict)

    def need(self, rows: int) -> Need:
        """With so many rows in a batch."""
        if rows not in self._known:
            self._known[rows] = self._computed(rows)
        return self._known[rows]

    def _computed(self, rows: int) -> Need:
        shares, step = self.shares, self.step.rows(rows)
        evaluation = self.evaluation.rows(self.rows_in_evaluation)
        order = _one_gradient_at_a_time(step) if shares.cut else step.order
        beside = shares.gradients if shares.cut else 0
        resident = shares.resident() + beside
        live = max(
            resident + Events(order).peak(),
            shares.resident() + shares.gradients + shares.at_step,
            resident + evaluation.peak(),
        )
        heap, mapped = live, 0
        if self.place.device == "cpu":
            found = heap_size(self._layout(order, evaluation.order, beside))
            heap = live if found is None else max(live, found)
            mapped = self.saved_bytes()
        return Need(
            shares.weights, shares.gradients, shares.states, shares.gathered, step.activations(),
            evaluation.peak(), live, heap, mapped, heap + mapped, shares.offloaded,
        )  # fmt: skip

    def saved_bytes(self) -> int:
        """What all parameters take in fp32, as they lie on the disk."""
        return sum(FP32 * tensor.numel for tensor in self.tensors)

    def trained_bytes(self) -> int:
        """What the trained parameters take in fp32, as they are saved."""
        return sum(FP32 * tensor.numel for tensor in self.tensors if tensor.trains)

    def _layout(self, step: list[Event], evaluation: list[Event], beside: int) -> Layout:
        shares = self.shares
        whole = [tensor.nbytes for tensor in self.tensors]
        if self.is_zero:
            kept = [round(size * shares.weights / sum(whole)) for size in whole]
            together = [round(size * shares.gathered / sum(whole)) for size in whole]
            step, evaluation = _put_together(step, together), _put_together(evaluation, together)
            states = [*[shares.states // 3] * 3, shares.at_step, beside, shares.offloaded]
        else:  # two for each tensor
            kept = whole
            trained = [tensor.numel for tensor in self.tensors if tensor.trains]
            states = [shares.states * numel // (2 * sum(trained)) for numel in trained] * 2
        return Layout(
            self.built, kept, [size for size in states if size], step, evaluation,
            [tensor.numel * FP32 for tensor in self.tensors],
            self.answering.rows(self.rows_in_evaluation).order,
        )  # fmt: skip


def footprint(job: Job, model: Any, rows: Rows, place: Place) -> Footprint:
    """Look at the model of a job (`skeleton.build`) at its place; it is used up."""
    by_deepspeed = job.launcher == "deepspeed"
    counted = count_parameters(model)
    built = [parameter.untyped_storage().nbytes() for parameter in model.parameters()]
    training = job.training
    if by_deepspeed and place.precision != "fp32":
        model.to(PRECISIONS[place.precision])

    def casting() -> Any:
        precision = "fp32" if by_deepspeed else place.precision
        return autocast(torch.device("cpu"), precision)

    with without_content(model), _going_through(job):
        answering = evaluation_step(model, rows.longest_validation, nullcontext)
        prepare(model, place.device, place.precision, training.gradient_checkpointing)
        passes = min(2, training.gradient_accumulation_steps)
        step = training_step(model, rows.longest, passes, casting)
        evaluation = evaluation_step(model, rows.longest_validation, casting)
        tensors = parameters_of(model)
    if by_deepspeed:
        shares = cut_by_zero(tensors, job.deepspeed, place.processes)
    else:
        shares = alone(tensors, optimizer_of(job, place.device))
    in_evaluation = min(training.per_device_eval_batch_size, rows.validation or 2**31)
    return Footprint(
        place, by_deepspeed, counted, built, tensors, shares, step, evaluation, answering,
        in_evaluation,
    )  # fmt: skip


@contextmanager
def _going_through(job: Job) -> Iterator[None]:
    """UsageError where a model looks into its tensors to decide on its way: they are empty."""
    try:
        yield
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise UsageError(
            f"{job.model.model_name_or_path}: cannot be planned with the method {job.method.name} "
            f"({type(error).__name__}: {first_line(error)[:200]}), since it needs the values of "
            "its weights or texts on its way; start the run with --max_steps 3 to see what it "
            "takes."
        ) from None


def optimizer_of(job: Job, device: str) -> str:
    """TrainingArguments' name of the optimizer."""
    named = (job.training.model_extra or {}).get("optim")
    if named:
        return str(named)
    return optimizer_in_4_bits(device) if job.model.load_in_4bit else "adamw_torch"


def find_place(job: Job, world_size: int | None) -> tuple[Place, list[str]]:
    """Where the job is to train, whatever this machine has; what is assumed is said."""
    wanted = job.resources
    device = wanted.device
    if device == "auto":
        device = "cuda" if wanted.gpus_per_node or torch.cuda.is_available() else "cpu"
    notes = []
    precision: str = job.training.precision
    if precision == "auto":
        precision = "bf16" if device == "cuda" or has_bf16(torch.device("cpu")) else "fp32"
        if device == "cuda" and not torch.cuda.is_available():
            notes.append("bf16 assumed, as GPUs since Ampere have it")
    if job.launcher != "deepspeed":
        return Place(device, precision, 1), notes
    per_node = wanted.gpus_per_node or wanted.nproc_per_node or 1
    return Place(device, precision, world_size or wanted.nodes * per_node), notes


def largest_batch(footprint: Footprint, memory: int, limit: int = 4096) -> int:
    """The most rows a batch whose peak is within `memory` bytes; 0 where not even one is."""
    beside = LIBRARIES if footprint.place.device == "cpu" else 0

    def fits(rows: int) -> bool:
        return footprint.need(rows).peak + beside <= memory

    low, high = 0, 1
    while high <= limit and fits(high):
        low, high = high, 2 * high
    while high - low > 1 and low < limit:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return min(low, limit)


def _put_together(order: list[Event], sizes: list[int]) -> list[Event]:
    """A pass for which ZeRO's stage 3 puts each parameter together, and lets it go at the end.

    In its first pass, before it knows the order, it lets each go at once.
    """
    if not any(sizes):
        return order
    made = [(-2 - number, size) for number, size in enumerate(sizes)]
    fetched = [event for number, size in made for event in ((number, size), (number, FREED))]
    return [*fetched, *made, *order, *((number, FREED) for number, _ in made)]


def _one_gradient_at_a_time(step: Events) -> list[Event]:
    """ZeRO's stages 2 and 3 hand a gradient on as it appears: each goes when the next one comes."""
    order: list[Event] = []
    last = None
    for number, size in step.order:
        if number in step.gradients and size != FREED:
            if last is not None:
                order.append((last, FREED))
            last = number
        order.append((number, size))
    return order if last is None else [*order, (last, FREED)]
