"""Distillation: what a student learns beside its labels, and the loss that weighs both.

Hinton, Vinyals and Dean (2015), Distilling the Knowledge in a Neural Network.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
import torch
from torch.nn.functional import kl_div, log_softmax

from textassay.config.schema import DistillationSection, Job
from textassay.data.load import Dataset
from textassay.data.unlabelled import load_unlabelled
from textassay.training.teacher import TEACHER_LOGITS, Teacher, ask, doubts
from textassay.training.trainer import AssayTrainer


@dataclass(frozen=True)
class Distillation:
    """A teacher, the texts that only it has answers for, and its logits.

    `logits` has a row for each training row, then one for each of `unlabelled`.
    """

    teacher: Teacher
    section: DistillationSection
    unlabelled: pa.Table
    logits: datasets.Dataset

    def rows(self, train: datasets.Dataset, unlabelled: datasets.Dataset) -> datasets.Dataset:
        """The tokenised rows to train on, each with the teacher's logits, mapped from disk."""
        both = datasets.concatenate_datasets([train, unlabelled] if len(unlabelled) else [train])
        return datasets.concatenate_datasets([both, self.logits], axis=1)

    def describe(self) -> dict[str, Any]:
        """What the run's provenance says of its teacher."""
        return {
            **self.teacher.describe(),
            "temperature": self.section.temperature,
            "alpha": self.section.alpha,
            "unlabelled": len(self.unlabelled),
        }


def prepare_distillation(teacher: Teacher, job: Job, dataset: Dataset) -> Distillation:
    """Ask the teacher about every text that the student will learn from; notes go to `dataset`.

    Raises UsageError where its labels are others, DataError for unlabelled files that are broken.
    """
    judging = [dataset.splits["validation"], dataset.splits["test"]]
    unlabelled, notes = load_unlabelled(job.distillation.unlabelled_files, job.data, judging)
    dataset.notes += [*notes, *doubts(teacher, dataset)]
    texts = pa.chunked_array(
        [*dataset.splits["train"]["text"].chunks, *unlabelled["text"].chunks], pa.large_string()
    )
    logits = ask(teacher, texts, dataset.labels, job.resources.device)
    return Distillation(teacher, job.distillation, unlabelled, logits)


def distillation_loss(
    hard: Callable[..., torch.Tensor],
    teacher: torch.Tensor,
    section: DistillationSection,
    outputs: Any,
    labels: torch.Tensor,
    num_items_in_batch: Any = None,
) -> torch.Tensor:
    """alpha T^2 KL(teacher_T || student_T) + (1 - alpha) `hard`, the mean over a step's rows.

    `teacher` holds logits of shape [rows, labels]; T^2 keeps the two parts' gradients in proportion
    whatever T is (section 2.1 of the paper). `hard` takes the same arguments and counts the same
    rows; those without a label add nothing to it.
    """
    student_t = log_softmax(outputs.logits.float() / section.temperature, dim=-1)
    teacher_t = log_softmax(teacher / section.temperature, dim=-1)
    divergence = kl_div(student_t, teacher_t, reduction="sum", log_target=True)
    rows = len(labels) if num_items_in_batch is None else num_items_in_batch
    soft = section.temperature**2 * divergence / rows
    return section.alpha * soft + (1 - section.alpha) * hard(outputs, labels, num_items_in_batch)


class DistillingTrainer(AssayTrainer):
    """The teacher's logits of a batch go into the loss; validation rows have none."""

    section: DistillationSection
    compute_loss_func: Any  # the library gives it no type

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:  # fmt: skip
        """The library hands a loss function nothing but outputs and labels."""
        teacher, hard = inputs.pop(TEACHER_LOGITS, None), self.compute_loss_func
        if teacher is not None:
            self.compute_loss_func = functools.partial(
                distillation_loss, hard, teacher, self.section
            )
        try:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        finally:
            self.compute_loss_func = hard
