"""What a job needs on a node, named before anything starts there."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from textassay.cluster.resources import refuse_too_many_nodes
from textassay.config.runs import Run
from textassay.config.schema import DataSection, Job
from textassay.data.catalog import read_entry
from textassay.data.load import load_dataset
from textassay.errors import DataError, UsageError
from textassay.models.device import find_device
from textassay.models.source import find_model
from textassay.training.extras import PACKAGES, install_line, wanted_extras


def refuse_unless_done(runs: Sequence[Run], nodes: int) -> None:
    """UsageError as below, for the job of these runs; not where nothing is left to do."""
    if not all(run.is_done() for run in runs):
        refuse_what_is_missing(runs[0].job, nodes)


def refuse_what_is_missing(job: Job, nodes: int) -> None:
    """UsageError where nodes, GPU, packages, model or data are not as the job wants them.

    To be asked on every node, since what one sees another may not.
    """
    refuse_too_many_nodes(job, nodes)
    find_device(job.resources.device)
    _refuse_missing_package(job)
    if job.distillation.student_layers is None:
        find_model(job.model.model_name_or_path, job.model.revision)
    if not _is_here(job.data):
        _fetch(job.data)


def _refuse_missing_package(job: Job) -> None:
    for extra in wanted_extras(job):
        # Several nodes would install it at the same time, and may have no network.
        if importlib.util.find_spec(PACKAGES[extra]) is None:
            raise UsageError(
                f"the job needs {PACKAGES[extra]}, which {sys.executable} does not have; on a "
                f"machine with a network run: {install_line(extra)}"
            )


def _is_here(section: DataSection) -> bool:
    """Whether the data are files that this node sees. They are not read: the run does that."""
    if section.train_file:
        files = (section.train_file, section.validation_file, section.test_file)
        return all(Path(file).is_file() for file in files if file)
    if section.path:
        return Path(section.path).exists()
    folder = read_entry(section.name).local_folder() if section.name else None
    return folder is not None and folder.exists()


def _fetch(section: DataSection) -> None:
    """Data from a hub, into its cache. UsageError that says what is missing."""
    try:
        load_dataset(section)
    except DataError as error:
        raise UsageError(str(error)) from None
