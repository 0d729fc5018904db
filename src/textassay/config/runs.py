"""A run: one job with one seed, in one directory that nobody else may have filled."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from textassay.config.schema import DistillationSection, Job
from textassay.console import say
from textassay.errors import TextassayError, UsageError
from textassay.files import read_json, sha256_file, sha256_text, write_json, write_text

CONFIG = "config.yaml"
FINISHED = "finished.json"
PROVENANCE = "provenance.json"
HALLMARK = "hallmark.json"


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

    def fingerprint(self) -> str:
        """A hash of everything that may change the result. Names and the device do not."""
        content = self.job.model_dump(mode="json", exclude=self.harmless())
        if not self.job.training.fewest_steps:  # so it is in runs of before, which do not know it
            del content["training"]["fewest_steps"]
        given = self.job.deepspeed.config_file
        if given and Path(given).is_file():  # what it says counts, not what it is called
            content["deepspeed"]["config_file"] = sha256_file(Path(given))
        if self.job.distillation.teacher:
            content["distillation"] |= _contents(self.job.distillation)
        return sha256_text(json.dumps({**content, "seed": self.seed}, sort_keys=True))

    def harmless(self) -> dict[str, Any]:
        """What may differ between attempts at a run: whole sections (True), or names of one."""
        return {
            "name": True, "seeds": True, "resources": True, "artifact": {"runs_dir"},
            "evaluation": {"allow_unlearned"},
            **({} if self.job.launcher == "deepspeed" else {"deepspeed": True}),
            **({} if self.job.distillation.teacher else {"distillation": True}),
        }  # fmt: skip

    def is_finished(self) -> bool:
        """Whether this run, with this configuration, has been carried out to its end."""
        marker = self.path / FINISHED
        if not marker.is_file():
            return False
        try:
            return bool(read_json(marker)["config"] == self.fingerprint())
        except (ValueError, KeyError, TypeError):
            raise TextassayError(
                f"{marker}: is not what a finished run writes; remove it to go on with the run."
            ) from None

    def is_done(self) -> bool:
        """Whether it is finished, and not to be run again."""
        return self.is_finished() and not self.force

    def finish(self, outcome: dict[str, Any]) -> None:
        """Mark the run as carried out; the last file that a run writes."""
        write_json(self.path / FINISHED, {"config": self.fingerprint(), **outcome})


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
    if not run.path.is_dir() or not any(run.path.iterdir()):
        return
    if not stored_config(run.path):
        raise UsageError(
            f"{run.path}: holds files that are not of a run, which would be mixed up or "
            "overwritten; name another --output_dir."
        )
    if not run.force and not _same_config(run):
        raise UsageError(
            f"{run.path}: holds a run with another configuration ({_first_difference(run)}); use "
            "--force to replace it or name another --output_dir."
        )


@contextmanager
def preparing(run: Run) -> Iterator[None]:
    """Make the directory ready, with `config.yaml` in it, for a block that fills it.

    What an earlier attempt of this very run left is kept for resuming, unless the run is forced or
    asked not to resume. If the block fails, a directory that was made here is taken away again.
    """
    if (run.path / CONFIG).is_file() and (run.force or run.resume == "none"):
        shutil.rmtree(run.path)
    made = not run.path.exists()
    try:
        try:
            run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            error.filename = str(run.path)  # not the parent that mkdir stumbled over
            raise
        if not (run.path / CONFIG).exists():
            write_text(run.path / CONFIG, _config_text(run))
        yield
    except BaseException:
        if made:
            shutil.rmtree(run.path, ignore_errors=True)
        raise


def stored_config(folder: Path) -> dict[str, Any]:
    """What a directory's `config.yaml` says; {} where there is none that a run has written."""
    try:
        content = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) and "fingerprint" in content else {}


def is_left_alone(run: Run) -> bool:
    """Whether a run is done, which is said."""
    done = run.is_done()
    if done:
        say(f"{run.path} is finished; --force runs it again")
    return done


def is_run(path: Path) -> bool:
    """Whether a run of ours has begun here."""
    try:
        return bool(stored_config(path))
    except OSError:  # a file, or one that may not be read
        return False


def artifact_in(where: Path) -> Path:
    """The artifact's directory, of a run's directory or of its own."""
    if not (where / CONFIG).is_file():
        return where
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
    data = {key: value for key, value in content["data"].items() if key != "prompt"}
    return {
        "name": f"{content['name']}-student",
        "model.max_seq_length": content["model"]["max_seq_length"],
        **{f"data.{key}": value for key, value in data.items() if value is not None},
    }


def _contents(section: DistillationSection) -> dict[str, Any]:
    """What the teacher and the files are, as hashes; what cannot be read stays a name.

    A hallmark holds the hashes of all files of its artifact.
    """
    teacher = Path(str(section.teacher))
    stamps = [path for path in (teacher / HALLMARK, teacher / "model" / HALLMARK) if path.is_file()]
    files = [Path(name) for name in section.unlabelled_files]
    return {
        "teacher": sha256_file(stamps[0]) if stamps else section.teacher,
        "unlabelled_files": [sha256_file(f) if f.is_file() else str(f) for f in files],
    }


def _same_config(run: Run) -> bool:
    return bool(stored_config(run.path).get("fingerprint") == run.fingerprint())


def _config_text(run: Run) -> str:
    content = {"seed": run.seed, **run.job.model_dump(mode="json")}
    head = "# Everything this run was told, defaults included. Written by textassay.\n"
    body: str = yaml.safe_dump(
        {"fingerprint": run.fingerprint(), **content}, sort_keys=False, allow_unicode=True
    )
    return head + body


def _first_difference(run: Run) -> str:
    """The first setting in which the stored run and this one differ."""
    stored = stored_config(run.path)
    wanted = {"seed": run.seed, **run.job.model_dump(mode="json")}
    harmless = run.harmless()
    for section, value in wanted.items():
        if harmless.get(section) is True:
            continue
        before = stored.get(section)
        if isinstance(value, dict) and isinstance(before, dict):
            for key in {**before, **value}:
                if key not in harmless.get(section, ()) and before.get(key) != value.get(key):
                    return f"{section}.{key}: {before.get(key)!r} there, {value.get(key)!r} here"
        elif before != value:
            return f"{section}: {before!r} there, {value!r} here"
    if run.job.distillation.teacher:
        return "its teacher or a file of unlabelled texts has changed"
    return "it was written by another version"
