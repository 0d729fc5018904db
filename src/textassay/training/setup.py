"""Everything a run needs before its first step: rows, base, model, device."""

from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
import torch
import transformers

from textassay.config.identity import Values
from textassay.config.runs import Run
from textassay.config.schema import Job
from textassay.console import counted, say, warn
from textassay.data.encode import encode
from textassay.data.load import Dataset, load_dataset
from textassay.data.prompt import Prompt
from textassay.data.token_ids import encode_texts
from textassay.data.trained_on import TEXT_COLUMN
from textassay.models.classifier import BuiltClassifier, build_classifier, count_parameters
from textassay.models.device import describe_device, find_device, find_precision
from textassay.models.method_modules import refuse_failing_forward
from textassay.models.methods import attach, refuse_unmergeable
from textassay.models.source import SETTINGS_KEY, Source, find_model
from textassay.training.arguments import (
    refuse_undefined_metric,
    settle_steps,
    training_arguments,
)
from textassay.training.distillation import Distillation, prepare_distillation
from textassay.training.inputs import find_inputs, has_weights, refuse_changed_inputs
from textassay.training.provenance import describe_run
from textassay.training.ranks import main_first, world_size
from textassay.training.student_base import base_from_teacher
from textassay.training.teacher import Teacher, find_teacher
from textassay.training.trackers import what_is_sent
from textassay.training.zero import built_whole, refuse_unsaved


@dataclass
class Setup:
    """A run with all that was found and built for it. `parameters` are (trainable, all)."""

    run: Run
    device: torch.device
    precision: str
    arguments: transformers.TrainingArguments
    base: Source
    dataset: Dataset
    prompt: Prompt | None
    tokenizer: Any
    model: Any
    parameters: tuple[int, int]
    inputs: Values
    provenance: dict[str, Any]
    distillation: Distillation | None = None

    def rows(self) -> dict[str, datasets.Dataset]:
        """The token ids to train on and to validate on; of several processes the main makes them.

        Beside a teacher's student also its logits, and the texts that have nothing else.
        """
        with main_first():
            train, validation = (self._encoded(self.dataset.splits[split])
                                 for split in ("train", "validation"))  # fmt: skip
        if self.distillation:
            train = self.distillation.rows(train, self._encoded(self.distillation.unlabelled))
        return {"train": train, "validation": validation}

    @property
    def fingerprint(self) -> str:
        """The name of the run in its checkpoints and artifacts."""
        return self.run.fingerprint(self.inputs)

    def _encoded(self, table: pa.Table) -> datasets.Dataset:
        return encode(table, self.tokenizer, self.dataset.labels,
                      self.run.job.model.max_seq_length, self.prompt)  # fmt: skip

    @property
    def is_zero(self) -> bool:
        """Whether DeepSpeed trains it."""
        return self.run.job.launcher == "deepspeed"


def assemble(run: Run) -> Setup:
    """Find the device, the base and the rows, and build the model as the method tunes it.

    Cheap checks come first. The head is the first to draw from the run's seed. UsageError where the
    run was begun with other rows, another base or tokenizer.
    """
    job = run.job
    device = find_device(job.resources.device)
    precision = find_precision(job.training.precision, device)
    arguments = training_arguments(run, device, precision)
    teacher = find_teacher(job.distillation) if job.distillation.teacher else None
    base = _find_base(job, teacher)
    dataset = load_dataset(job.data)
    inputs = find_inputs(job, dataset, None if job.distillation.student_layers else base)
    if not run.starts_again and has_weights(run.path):
        refuse_changed_inputs(run, inputs)
    validation = dataset.splits["validation"]["label"].to_pylist()
    refuse_undefined_metric(arguments, dataset.labels.ids(validation), len(dataset.labels))
    distillation = prepare_distillation(teacher, job, dataset) if teacher else None
    if not job.training.is_zero_shot():
        rows = len(dataset.splits["train"]) + (len(distillation.unlabelled) if distillation else 0)
        dataset.notes.extend(settle_steps(arguments, job.training.fewest_steps, rows))
    transformers.set_seed(run.seed)
    template = job.data.prompt
    prompt = Prompt.from_template(template, dataset.labels.names) if template else None
    with built_whole(arguments):
        built, model = _build_model(job, base, dataset, prompt, device)
    provenance = describe_run(run, dataset, base, inputs, device, precision)
    if distillation:
        provenance["teacher"] = distillation.describe()
    trainable, total = count_parameters(model)
    if job.training.is_zero_shot():
        trainable = 0
    return Setup(run, device, precision, arguments, base, dataset, prompt,
                 built.tokenizer, model, (trainable, total), inputs, provenance,
                 distillation)  # fmt: skip


def _build_model(
    job: Job, base: Source, dataset: Dataset, prompt: Prompt | None, device: torch.device
) -> tuple[BuiltClassifier, Any]:
    """The classifier, and the model as the method tunes it. UsageError where it cannot be used."""
    whole = job.method.settings().get("modules_to_save") or []
    built = build_classifier(base, dataset.labels, job.model, prompt, whole)
    if job.data.text_column:  # so that whoever gives the model a file need not know it
        getattr(built.model.config, SETTINGS_KEY)[TEXT_COLUMN] = job.data.text_column
    model = attach(built, job.method, base.name, base.revision)
    if job.launcher == "deepspeed":
        refuse_unsaved(model)
    if job.artifact.wants_merged():
        refuse_unmergeable(model)
    if job.model.load_in_4bit:
        model.to(device)  # the Trainer leaves a quantised model where it is
    texts = dataset.splits["train"]["text"].slice(0, 1).to_pylist()
    (ids,), _ = encode_texts(texts, built.tokenizer, job.model.max_seq_length, prompt)
    refuse_failing_forward(model, ids, built.tokenizer.pad_token_id, job.method.name)
    return built, model


def _find_base(job: Job, teacher: Teacher | None) -> Source:
    layers = job.distillation.student_layers
    if teacher and layers:
        return base_from_teacher(teacher, layers)
    return find_model(job.model.model_name_or_path, job.model.revision)


def announce(setup: Setup) -> None:
    """Print what is about to be done."""
    job, dataset = setup.run.job, setup.dataset
    trainable, total = setup.parameters
    say(f"run        {setup.run.path}")
    say(f"data       {dataset.name}: {'; '.join(split_lines(dataset))}")
    for note in dataset.notes:
        warn(note)
    say(f"model      {setup.base.name} ({setup.base.origin})")
    bits = ", base in 4 bits" if job.model.load_in_4bit else ""
    say(f"method     {job.method.name}{bits}: {trainable:,} of {total:,} parameters train "
        f"({trainable / total:.4%})")  # fmt: skip
    for sentence in what_is_sent(setup.arguments.report_to):
        say(f"tracker    {sentence}")
    if job.artifact.final_model_dir:
        say(f"final      {job.artifact.final_model_dir} gets the merged model at the end")
    if setup.distillation:
        told = job.distillation
        say(f"teacher    {told.teacher}: temperature {told.temperature:g}, alpha {told.alpha:g}")
    say(f"device     {describe_device(setup.device, setup.precision)}")
    if setup.arguments.num_train_epochs != job.training.num_train_epochs:
        say(f"epochs     {setup.arguments.num_train_epochs:g}, where few rows need more than "
            f"{job.training.num_train_epochs:g} (training.fewest_steps is "
            f"{job.training.fewest_steps})")  # fmt: skip
    if setup.is_zero:
        zero = setup.arguments.hf_deepspeed_config.get_value("zero_optimization", {})
        offload = [what for what in ("optimizer", "param") if zero.get(f"offload_{what}")]
        behind = f", {' and '.join(offload)} offloaded" if offload else ""
        say(f"deepspeed  ZeRO stage {zero['stage']}, {counted(world_size(), 'process')}{behind}")


def split_lines(dataset: Dataset) -> list[str]:
    """How many rows and labels there are."""
    sizes = [f"{split} {counted(len(table), 'row')}" for split, table in dataset.splits.items()]
    return [*sizes, f"{counted(len(dataset.labels), 'label')}"]
