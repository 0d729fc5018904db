"""The memory of one process of a run, as a function of the rows in its batch."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from textassay.config.schema import Job
from textassay.errors import UsageError, first_line
from textassay.models.classifier import count_parameters
from textassay.models.device import find_precision
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
from textassay.training.launch import count_processes

# Python, torch, transformers and all that a run imports, resident on Linux: 575 MB as measured by
# benchmarks/plan_accuracy.py, and what is imported only on the way.
LIBRARIES = 620 * 10**6
# The heap is 1.3 to 2.4 times its tensors where it was asked (docs/results.md).
HEAP_AT_A_GUESS = 2
# So many times what is planned were taken by ZeRO's processes on a CPU (the same).
ZERO_ON_A_CPU = 1.3
MOST_ROWS = 4096
# Of a heap that depends on chance.
CASES = 4


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
    `live` is the peak of tensors alone. At the end the `artifact` is read back beside the trained
    model: on a GPU as one more copy, on a CPU as a file that is mapped into memory beside the
    `heap`, which is what the tensors lie in. Where malloc cannot be asked how large that becomes,
    it `is_guessed`.
    """

    weights: int
    gradients: int
    states: int
    gathered: int
    activations: int
    evaluating: int
    live: int
    artifact: int
    heap: int
    is_guessed: bool
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
    in_4_bits: bool
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
        carried_out = _one_gradient_at_a_time(step) if shares.cut else step
        beside = shares.gradients if shares.cut else 0
        resident = shares.resident() + beside
        live = max(
            resident + carried_out.peak(),
            shares.resident() + shares.gradients + shares.at_step,
            resident + evaluation.peak(),
        )
        on_cpu = self.place.device == "cpu"
        artifact = self.saved_bytes() if on_cpu or not self.in_4_bits else sum(self.built)
        heap, is_guessed = 0, False
        if on_cpu:
            found = self._heap(carried_out, evaluation, beside)
            is_guessed = found is None
            heap = max(live, int(live * HEAP_AT_A_GUESS) if found is None else found)
        else:
            answering = self.answering.rows(self.rows_in_evaluation)
            live = max(live, shares.weights + artifact + answering.peak())
        peak = heap + artifact if on_cpu else live
        return Need(
            shares.weights, shares.gradients, shares.states, shares.gathered, step.activations(),
            evaluation.peak(), live, artifact, heap, is_guessed, peak, shares.offloaded,
        )  # fmt: skip

    def _heap(self, step: Events, evaluation: Events, beside: int) -> int | None:
        """What malloc says; where parameters come and go, the mean of what it says of a few cases.

        Blocks that come one event later leave other holes, and a heap that is a third larger or
        smaller; when exactly they come is a matter of the network.
        """
        found = []
        for late in range(CASES if self.shares.gathered else 1):
            size = heap_size(self._layout(step.later(late), evaluation.later(late), beside))
            if size is None:
                return None
            found.append(size)
        return sum(found) // len(found)

    def saved_bytes(self) -> int:
        """What all parameters take in fp32, as they lie on the disk."""
        return sum(FP32 * tensor.numel for tensor in self.tensors)

    def trained_bytes(self) -> int:
        """What the trained parameters take in fp32, as they are saved."""
        return sum(FP32 * tensor.numel for tensor in self.tensors if tensor.trains)

    def _layout(self, step: Events, evaluation: Events, beside: int) -> Layout:
        shares = self.shares
        training, evaluating = step.order, evaluation.order
        whole = [tensor.nbytes for tensor in self.tensors]
        if self.is_zero:
            kept = [round(size * shares.weights / sum(whole)) for size in whole]
            together = [round(size * shares.gathered / sum(whole)) for size in whole]
            training, evaluating = (_put_together(one, together) for one in (step, evaluation))
            states = [*[shares.states // 3] * 3, shares.at_step, beside, shares.offloaded]
        else:  # two for each tensor
            kept = whole
            trained = [tensor.numel for tensor in self.tensors if tensor.trains]
            of_one = shares.states / (2 * max(1, sum(trained)))
            states = [int(of_one * numel) for numel in trained] * 2
        return Layout(
            self.built, kept, [size for size in states if size], training, evaluating,
            [tensor.numel * FP32 for tensor in self.tensors],
            self.answering.rows(self.rows_in_evaluation).order,
        )  # fmt: skip


def footprint(job: Job, model: Any, rows: Rows, place: Place) -> Footprint:
    """Look at the model of a job (`skeleton.build`) at its place; it is used up."""
    by_deepspeed = job.launcher == "deepspeed"
    counted = count_parameters(model)
    built = [parameter.untyped_storage().nbytes() for parameter in model.parameters()]
    training = job.training
    artifact = copy.deepcopy(model)
    if by_deepspeed and place.precision != "fp32":
        model.to(PRECISIONS[place.precision])

    def casting() -> Any:
        precision = "fp32" if by_deepspeed else place.precision
        return autocast(torch.device("cpu"), precision)

    with without_content(artifact), _going_through(job):
        if place.device != "cpu":
            prepare(artifact, place.device, "fp32", checkpointing=False)
        answering = evaluation_step(artifact, rows.longest_validation, nullcontext)
    with without_content(model), _going_through(job):
        prepare(model, place.device, place.precision, is_checkpointed(job))
        evaluation = evaluation_step(model, rows.longest_validation, casting)
        step = evaluation
        if not training.is_zero_shot():
            passes = min(2, training.gradient_accumulation_steps)
            step = training_step(model, rows.longest, passes, casting)
        tensors = parameters_of(model)
    if training.is_zero_shot():
        shares = Shares(sum(tensor.nbytes for tensor in tensors), 0, 0)
    elif by_deepspeed:
        shares = cut_by_zero(tensors, job.deepspeed, place.processes)
    else:
        shares = alone(tensors, optimizer_of(job, place.device))
    in_evaluation = training.per_device_eval_batch_size
    if place.processes == 1:  # of several, accelerate fills each one's batch up with further rows
        in_evaluation = min(in_evaluation, rows.validation or in_evaluation)
    return Footprint(
        place, by_deepspeed, counted, built, tensors, shares, step, evaluation, answering,
        in_evaluation, job.model.load_in_4bit,
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


def is_checkpointed(job: Job) -> bool:
    """Whether activations are computed again in the backward; the library's newer name wins."""
    training = job.training
    newer = (training.model_extra or {}).get("activation_checkpointing")
    return training.gradient_checkpointing if newer is None else bool(newer)


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
    if device == "cpu" or torch.cuda.is_available():
        precision = find_precision(precision, torch.device(device))
    elif precision == "auto":
        precision = "bf16"
        notes.append("bf16 assumed, as GPUs since Ampere have it")
    if job.launcher != "deepspeed":
        return Place(device, precision, 1), notes
    per_node = wanted.nproc_per_node or _processes(wanted.gpus_per_node, device)
    return Place(device, precision, world_size or wanted.nodes * per_node), notes


def _processes(gpus: int | None, device: str) -> int:
    """On a node, as the launcher starts them."""
    if device == "cpu":
        return count_processes("cpu")
    return gpus or max(1, torch.cuda.device_count())


def largest_batch(footprint: Footprint, memory: int, limit: int = MOST_ROWS) -> int:
    """The most rows a batch whose peak is within `memory` bytes; 0 where not even one is."""
    on_cpu = footprint.place.device == "cpu"
    beside = LIBRARIES if on_cpu else 0
    times = ZERO_ON_A_CPU if on_cpu and footprint.is_zero else 1

    def fits(rows: int) -> bool:
        return times * (footprint.need(rows).peak + beside) <= memory

    low, high = 0, 1
    while high <= limit and fits(high):
        low, high = high, 2 * high
    while high - low > 1 and low < limit:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return min(low, limit)


def _put_together(events: Events, sizes: list[int]) -> list[Event]:
    """A pass for which ZeRO's stage 3 puts each parameter together, and lets it go at the end.

    Where a module needs it: between what is kept for the backward its blocks make holes, which is
    most of what a heap on a CPU takes beyond its tensors.
    """
    if not any(sizes):
        return events.order
    due: dict[int, list[Event]] = {}
    for number, (place, size) in enumerate(zip(events.needed, sizes, strict=True)):
        due.setdefault(place, []).append((-2 - number, size))
    order: list[Event] = []
    for place, event in enumerate(events.order):
        order += [*due.get(place, ()), event]
    order += due.get(len(events.order), ())
    return [*order, *((-2 - number, FREED) for number in range(len(sizes)))]


def _one_gradient_at_a_time(step: Events) -> Events:
    """ZeRO's stages 2 and 3 hand a gradient on as it appears: each goes when the next one comes."""
    order: list[Event] = []
    last = None
    for number, size in step.order:
        if number in step.gradients and size != FREED:
            if last is not None:
                order.append((last, FREED))
            last = number
        order.append((number, size))
    return replace(step, order=order if last is None else [*order, (last, FREED)])
