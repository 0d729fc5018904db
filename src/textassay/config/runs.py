"""A run: one job with one seed, in one directory that nobody else may have filled."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from textassay.config.identity import (
    Values,
    differences,
    fingerprint,
    measured_settings,
    stored_inputs,
    training_settings,
)
from textassay.config.job_yaml import read_yaml
from textassay.config.schema import Job
from textassay.console import some, warn
from textassay.errors import TextassayError, UsageError
from textassay.files import read_json, settle_interrupted, write_json, write_text
from textassay.links import refuse_link
from textassay.locking import LOCK, locked

CONFIG = "config.yaml"
FINISHED = "finished.json"
PROVENANCE = "provenance.json"


# What a run leaves in its directory, beside hidden scratch folders (see `replacing`).
OURS = re.compile(
    r"checkpoint-\d+|carried-over|model|merged|pruned|runs|tmp-checkpoint-\d+"
    r"|(config|finished|provenance|trainer_state|label_mapping|teacher|pruning"
    r"|(train|eval|test|all)_results)\.(json|yaml)"
    r"|test_summary\.txt|predictions\.parquet|report\.html"
    r"|(confusion_matrix|reliability|learning_curves)\.png"
)
SCRATCH = re.compile(r"\.(?P<name>.+)\.\w{8}")
# In a directory that counts as empty; the second is made by file systems.
NOBODYS = {LOCK, "lost+found"}
SECONDS_TO_WRITE = 60


@dataclass(frozen=True)
class Run:
    """One job with one seed. `force` starts again; `resume` is auto, none or a checkpoint."""

    job: Job
    seed: int
    path: Path
    force: bool = False
    resume: str = "auto"

    @property
    def model_dir(self) -> Path:
        """Where the artifact goes."""
        return self.path / "model"

    @property
    def starts_again(self) -> bool:
        """Whether what an earlier attempt left is to be replaced."""
        return self.force or self.resume == "none"

    def content(self) -> dict[str, Any]:
        """Everything that the run was told."""
        return {"seed": self.seed, **self.job.model_dump(mode="json")}

    def fingerprint(self, inputs: Values) -> str:
        """The name of the run in its checkpoints and artifacts.

        That which its directory has, which may be of an earlier version; of a new run a hash of
        the settings and inputs that its weights depend on.
        """
        stored = {} if self.starts_again else stored_config(self.path)
        named = stored.get("fingerprint")
        return str(named or fingerprint(training_settings(self.content()), inputs))

    def is_finished(self) -> bool:
        """Whether this run, with these training settings, has been carried out to its end."""
        marker = self.path / FINISHED
        if not marker.is_file():
            return False
        stored = stored_config(self.path)
        try:
            finished = read_json(marker)["config"]
        except (ValueError, KeyError, TypeError):
            raise TextassayError(
                f"{marker}: is not what a finished run writes; remove it to go on with the run."
            ) from None
        return bool(stored) and finished == stored["fingerprint"] and not self.changed_settings()

    def is_done(self) -> bool:
        """Whether it is finished, measured and published as it was told, and not to be replaced."""
        return not self.force and self.is_finished() and not self.changed_measures()

    def changed_settings(self) -> dict[str, tuple[Any, Any]]:
        """{setting: (value there, value here)} where the run in the directory was told otherwise.

        Only settings that its weights depend on count.
        """
        return differences(
            training_settings(stored_config(self.path)), training_settings(self.content())
        )

    def changed_measures(self) -> dict[str, tuple[Any, Any]]:
        """The same for settings of what is measured and published, on which no weight depends."""
        return differences(
            measured_settings(stored_config(self.path)), measured_settings(self.content())
        )

    def finish(self, outcome: dict[str, Any]) -> None:
        """Mark the run as carried out; the last file that a run writes."""
        stored = stored_config(self.path)
        write_json(self.path / FINISHED, {"config": stored.get("fingerprint"), **outcome})


def runs_of(job: Job, root: Path, force: bool = False) -> list[Run]:
    """The runs of a job under `root`/<job>/seed-<k>/."""
    return [Run(job, seed, root / job.name / f"seed-{seed}", force) for seed in job.seeds]


def refuse_directory(run: Run) -> None:
    """UsageError where the run's directory is not the run's.

    That is one with somebody else's files, or with another configuration unless the run is forced.
    """
    for place in (run.path, *run.path.parents):
        if os.path.lexists(place) and not place.is_dir():
            raise UsageError(f"{run.path}: {place} is a file; name another --output_dir.")
    if not run.path.is_dir() or {path.name for path in run.path.iterdir()} <= NOBODYS:
        return
    if not stored_config(run.path):
        raise UsageError(
            f"{run.path}: holds files that are not of a run, which would be mixed up or "
            "overwritten; name another --output_dir."
        )
    if not run.force:
        refuse_links_in(run.path)
    changed = run.changed_settings()
    if changed and not run.force:
        key, (there, here) = next(iter(changed.items()))
        raise UsageError(
            f"{run.path}: holds a run with another configuration ({key}: {there!r} there, {here!r} "
            "here); name another --output_dir, or use --force to replace it."
        )


@contextmanager
def holding(run: Run) -> Iterator[None]:
    """In the block the run's directory is there, and no other process's (see `locked`).

    What nothing was written to is taken away again.
    """
    above = [place for place in (run.path, *run.path.parents) if not place.exists()]
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        error.filename = str(run.path)  # not the parent that mkdir stumbled over
        raise
    try:
        with locked(run.path):
            _remove_scratch(run.path)
            yield
    finally:
        for folder in above:
            with suppress(OSError):  # it holds something
                folder.rmdir()


@contextmanager
def preparing(run: Run, inputs: Values | None = None) -> Iterator[None]:
    """Begin the run, for a block that fills its directory; see `begin` and `emptied_on_failure`."""
    with emptied_on_failure(run):
        begin(run, inputs or {})
        yield


@contextmanager
def emptied_on_failure(run: Run) -> Iterator[None]:
    """If the block fails, a directory that was empty, or absent, becomes so again."""
    made = not run.path.exists()
    was_empty = made or {path.name for path in run.path.iterdir()} <= NOBODYS
    try:
        yield
    except BaseException:
        for path in run.path.iterdir() if was_empty and run.path.is_dir() else ():
            if path.name not in NOBODYS:
                remove(path)
        if made:
            with suppress(OSError):
                run.path.rmdir()
        raise


def begin(run: Run, inputs: Values) -> None:
    """Write `config.yaml`, which makes a directory a run's, and take away that it is finished.

    What an earlier attempt of this very run left is kept for resuming, unless the run is forced or
    asked not to resume. Files that no run has written are kept in any case, which is said.
    """
    name = run.fingerprint(inputs)
    if run.starts_again and stored_config(run.path):
        _clear(run.path)
    (run.path / FINISHED).unlink(missing_ok=True)
    inputs = inputs or stored_config(run.path).get("inputs") or {}
    head = "# Everything this run was told, defaults included. Written by textassay.\n"
    content = {"fingerprint": name, **({"inputs": inputs} if inputs else {}), **run.content()}
    body: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_text(run.path / CONFIG, head + body)


def stored_config(folder: Path) -> dict[str, Any]:
    """What a directory's `config.yaml` says; {} where there is none that a run has written."""
    try:
        content = read_yaml((folder / CONFIG).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) and "fingerprint" in content else {}


def inputs_of_run(folder: Path) -> Values:
    """The hashes of the data, base and tokenizer that a run has written down; {} of none."""
    try:
        provenance = read_json(folder / PROVENANCE)
    except (OSError, ValueError):
        provenance = {}
    return stored_inputs(stored_config(folder), provenance if isinstance(provenance, dict) else {})


def is_run(path: Path) -> bool:
    """Whether a run of ours has begun here."""
    try:
        return bool(stored_config(path))
    except OSError:  # a file, or one that may not be read
        return False


def refuse_links_in(run: Path) -> None:
    """GateError where what a run has written about itself, or its artifact, is a link out of it.

    The run's directory itself may be a link, and its checkpoints.
    """
    for path in sorted(run.iterdir()) if run.is_dir() else ():
        if OURS.fullmatch(path.name) and not path.name.startswith("checkpoint-"):
            refuse_link(path, run)


def artifact_in(where: Path) -> Path:
    """The artifact's directory, of a run's directory or of its own."""
    if not (where / CONFIG).is_file():
        return where
    refuse_links_in(where)
    if not (where / "model").is_dir():
        raise UsageError(f"{where}: is a run without model/, so it did not get to its end.")
    return where / "model"


def settings_of_teacher(teacher: Path) -> dict[str, Any]:
    """What a student takes over from its teacher's run: rows and how they are split, their length.

    Also a name. How a text is asked (data.prompt) is the teacher's own.
    """
    folder = teacher.parent if teacher.name == "model" else teacher
    content = stored_config(folder) if folder.is_dir() else {}
    if not content:
        return {}
    try:
        data = {key: value for key, value in content["data"].items() if key != "prompt"}
        longest = content["model"]["max_seq_length"]
    except (KeyError, TypeError, AttributeError):
        raise UsageError(f"{folder / CONFIG}: is not what a run writes; it was changed.") from None
    return {
        "name": f"{content.get('name')}-student",
        "model.max_seq_length": longest,
        **{f"data.{key}": value for key, value in data.items() if value is not None},
    }


def _clear(folder: Path) -> None:
    """Remove what runs have written into a folder, and say what else stays there."""
    kept = []
    for path in sorted(folder.iterdir()):
        scratch = SCRATCH.fullmatch(path.name)
        if OURS.fullmatch(scratch["name"] if scratch else path.name):
            remove(path)
        elif path.name not in NOBODYS:
            kept.append(path.name)
    if kept:
        warn(f"{folder}: kept {some(kept)}, which the run that is replaced did not write")


def _remove_scratch(folder: Path) -> None:
    """Remove what a kill has left of files that were being written, and save what it replaced.

    Nobody else publishes here; an evaluator may be writing one of its small files.
    """
    for path in folder.glob(".*"):
        scratch = SCRATCH.fullmatch(path.name)
        if not scratch or not OURS.fullmatch(scratch["name"]) or not path.is_dir():
            continue
        is_large = scratch["name"] in ("model", "merged")
        if is_large or time.time() - path.stat().st_mtime > SECONDS_TO_WRITE:
            settle_interrupted(path, folder / scratch["name"])


def remove(path: Path) -> None:
    """Remove a file, a link (not what it points to), or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
