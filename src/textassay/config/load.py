"""From defaults, job file, environment and flags to one checked job that knows its sources."""

import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from textassay.config.dotenv import (
    VARIABLES,
    fill_references,
    read_env_file,
    refuse_unknown,
    settings_in,
)
from textassay.config.emotion_env import emotion_settings, is_emotion_env
from textassay.config.homes import advise_home
from textassay.config.job_yaml import read_yaml
from textassay.config.names import nearest
from textassay.config.own_choices import refuse_in_job
from textassay.config.rates import DEFAULT_RATES, LORA_RATE
from textassay.config.runs import settings_of_teacher
from textassay.config.schema import SECTIONS, Job
from textassay.console import warn
from textassay.errors import UsageError
from textassay.files import from_home, project_root
from textassay.masking import looks_secret

BASE, REVISION = "model.model_name_or_path", "model.revision"
ROWS = ("data.name", "data.path", "data.train_file")  # each says which rows
# A file of these, or a folder, may stand where a job file does.
DATA_SUFFIXES = {".csv", ".tsv", ".json", ".jsonl", ".parquet"}
LONGEST_VALUE = 200  # characters of a value that a message shows
PRECISION = {"training.precision", "training.bf16", "training.fp16"}
RAISED = "Value error, "  # what pydantic puts before the message of a ValueError


@dataclass(frozen=True)
class Setting:
    """One value of a job, and where it came from."""

    key: str
    value: Any
    source: str


def resolve_job(
    job_file: Path | None,
    env_file: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, str],
    launcher: str | None,
) -> tuple[Job, list[Setting]]:
    """Lay the sources over each other: defaults, job file, --env_file, environment, flags.

    Where `job_file` is a data file or a folder, it is the job's `data.path` and names the job.
    `flags` maps a setting such as `training.learning_rate` to the text given. Raises UsageError
    with the source, the setting and what to do.
    """
    given: dict[str, Setting] = {}
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if job_file and is_data(job_file):
        layers.append(("command line", {"data.path": str(job_file)}))
        job_file = None
    elif job_file:
        layers.append((str(job_file), read_job_file(job_file)))
        refuse_in_job(job_file, layers[0][1])
    if env_file:
        layers += _layers_of(env_file, job_file is not None)
    refuse_unknown(environ, "environment")
    layers.append(("environment", settings_in(environ)))
    layers.append(("flag", flags))
    for source, layer in layers:
        if not PRECISION.isdisjoint(layer):  # three spellings of one setting
            given = {key: setting for key, setting in given.items() if key not in PRECISION}
        if given.get(BASE) and layer.get(BASE) not in (None, given[BASE].value):
            given.pop(REVISION, None)  # it is of the base that an earlier source has named
        for key, value in layer.items():
            given[key] = Setting(key, _listed(key, value), source)
    _refuse_secrets(given)
    _apply_launcher(given, launcher)
    _apply_rate(given)
    _apply_teacher(given, job_file)
    _apply_name(given, job_file)
    job = _checked(given)
    return job, _with_defaults(job, given)


def _refuse_secrets(given: dict[str, Setting]) -> None:
    """Every setting is stored with the run, and some travel in the artifact."""
    for key, setting in given.items():
        if looks_secret(setting.value):
            raise UsageError(
                f"{setting.source}: {key} holds what looks like a token or a password, and "
                "settings are kept with the run; take it out, and put it where the library that "
                "needs it looks for it: HF_TOKEN for the hub, WANDB_API_KEY for wandb."
            )


def _layers_of(env_file: Path, beside_a_job: bool) -> list[tuple[str, Mapping[str, Any]]]:
    """The settings of a `.env` file; those of the older emotion trainer first."""
    variables = read_env_file(env_file)
    refuse_unknown(variables, str(env_file))
    for name in sorted(VARIABLES & variables.keys()):
        warn(f"{env_file}: {name} is read from the environment alone, not from this file")
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if is_emotion_env(variables):
        try:
            filled = fill_references(env_file, variables)
            settings, notes = emotion_settings(filled, beside_a_job)
        except ValueError as error:
            raise UsageError(f"{env_file}: {error}.") from None
        for note in notes:
            warn(f"{env_file}: {note}")
        layers.append((str(env_file), settings))
    layers.append((str(env_file), settings_in(variables)))
    return layers


def is_data(path: Path) -> bool:
    """Whether a path that may be a job file is data: a folder, or a file of such a name."""
    return path.is_dir() or path.suffix.lower() in DATA_SUFFIXES


def read_job_file(path: Path) -> dict[str, Any]:
    """The settings of a job file by dotted key."""
    if not path.is_file():
        raise UsageError(
            f"{path}: there is no such job file; those that come along are in "
            f"{project_root() / 'jobs'}."
        )
    try:
        content = read_yaml(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")
        raise UsageError(f"{path}: is not readable as YAML: {reason}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a job file maps names to settings; see docs/configuration.md.")
    settings: dict[str, Any] = {}
    for key, value in content.items():
        if key in SECTIONS:
            if not isinstance(value, dict | None):
                raise UsageError(
                    f"{path}: {key} is a section; put its settings below it, indented."
                )
            settings.update({f"{key}.{name}": inner for name, inner in (value or {}).items()})
    for key, value in content.items():
        if key in settings:
            raise UsageError(f"{path}: {key} stands in its section, and once more at the top.")
        if key not in SECTIONS:
            settings[str(key)] = value
    return settings


@functools.cache
def _lists() -> dict[str, bool]:
    """The schema's settings that are lists, and whether a text alone is one, too."""
    fields = [("", Job)] + [(f"{name}.", section) for name, section in SECTIONS.items()]
    types = {f"{prefix}{name}": info.annotation for prefix, model in fields
             for name, info in model.model_fields.items()}  # fmt: skip
    return {key: typing.get_origin(annotation) is not list and str in typing.get_args(annotation)
            for key, annotation in types.items() if "list[" in str(annotation)}  # fmt: skip


def _listed(key: str, value: Any) -> Any:
    """Lists arrive from flags and variables as `a,b`."""
    lists = _lists()
    if key not in lists or not isinstance(value, str) or (lists[key] and "," not in value):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _apply_launcher(given: dict[str, Setting], launcher: str | None) -> None:
    named = given.get("launcher")
    if launcher is None:
        launcher = str(named.value) if named else None
    elif named and named.value != launcher:
        raise UsageError(
            f"{named.source}: is a job for the {named.value} launcher; "
            f"run `textassay train-{named.value}` or `bash train.sh {named.source}`."
        )
    if launcher:
        given["launcher"] = Setting("launcher", launcher, named.source if named else "script")
    if launcher == "full" and "method.name" not in given:
        given["method.name"] = Setting("method.name", "full", "launcher")


def _apply_rate(given: dict[str, Setting]) -> None:
    """Every method has a default learning rate, which is taken unless one is named."""
    named, key = given.get("method.name"), "training.learning_rate"
    method = str(named.value).lower() if named else ""
    rate = DEFAULT_RATES.get(method, LORA_RATE)
    if rate != LORA_RATE:
        given.setdefault(key, Setting(key, rate, f"default for {method}"))


def _apply_teacher(given: dict[str, Setting], job_file: Path | None) -> None:
    """A student is named, or cut out of its teacher; it has the teacher's rows unless told others.

    Rows that were split as the teacher's are tested on what neither has seen.
    """
    teacher, layers = given.get("distillation.teacher"), given.get("distillation.student_layers")
    if not teacher or teacher.value is None:
        return
    named = given.get(BASE)
    if layers and layers.value is not None:
        cut = Setting(BASE, f"{layers.value} of the teacher's layers", layers.key)
        if named and named.value != cut.value:
            raise UsageError(
                f"{layers.source}: distillation.student_layers and {BASE} ({named.value}) are two "
                "students; name one."
            )
        given[BASE] = cut
    elif not named:
        raise UsageError(
            f"{teacher.source}: the teacher {teacher.value} has no student; name a smaller model "
            "with --student, or have it cut out of the teacher with --student_layers N."
        )
    told_rows = any(key in given for key in ROWS)
    for key, value in settings_of_teacher(Path(from_home(str(teacher.value)))).items():
        if not (key == "name" and job_file) and not (key.startswith("data.") and told_rows):
            given.setdefault(key, Setting(key, value, "the teacher's run"))


def _apply_name(given: dict[str, Setting], job_file: Path | None) -> None:
    """A job without a name is called after its file, else after its data."""
    if "name" in given:
        return
    if job_file:
        given["name"] = Setting("name", job_file.stem, "name of the file")
        return
    for key in ("data.name", "data.path", "data.train_file"):
        if key in given and (stem := Path(str(given[key].value)).stem):
            safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in stem)
            given["name"] = Setting("name", safe, key)
            return


def _checked(given: dict[str, Setting]) -> Job:
    nested: dict[str, Any] = {}
    for key, setting in given.items():
        section, _, name = key.rpartition(".")
        if section and section not in SECTIONS:
            raise UsageError(f"{setting.source}: {key}: {nearest(section, SECTIONS)}")
        (nested.setdefault(section, {}) if section else nested)[name] = setting.value
    try:
        return Job.model_validate(nested)
    except ValidationError as error:
        raise UsageError(_explain(error, given)) from None


def _explain(error: ValidationError, given: dict[str, Setting]) -> str:
    """The first thing that is wrong, in one sentence: where, which key, what to do."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if not isinstance(part, int)]
    key = ".".join(path)
    subject = f"{key}.{_subject(first['msg'])}".lstrip(".")
    blamed = given.get(key) or given.get(subject)
    source = blamed.source if blamed else _any_source(key, given)
    if first["type"] == "extra_forbidden":
        model = SECTIONS[path[0]] if len(path) > 1 else Job
        advice = advise_home(path[-1]) or nearest(path[-1], model.model_fields)
        return f"{source}: {key} is not a setting; {advice}"
    message = first["msg"].removeprefix(RAISED)
    message = message[0].lower() + message[1:]
    if first["type"] == "string_type" and isinstance(first["input"], bool | int | float):
        message = f"{str(first['input']).lower()} is no text here; put quotes round it"
    got = f" (it is {given[key].value!r})" if key in given else ""
    joint = "." if subject in given else ": "  # `training.eval_delay must be …`
    return f"{source}: {key + joint if key else ''}{message}{got[:LONGEST_VALUE]}"


def _subject(message: str) -> str:
    """The first word of a message; where a section refuses one of its keys, that is the key."""
    return message.removeprefix(RAISED).partition(" ")[0]


def _any_source(section: str, given: dict[str, Setting]) -> str:
    """The source of a section's problem: the last one that set anything in it."""
    inside = [s.source for s in given.values() if not section or s.key.startswith(section)]
    return inside[-1] if inside else "defaults"


def _with_defaults(job: Job, given: dict[str, Setting]) -> list[Setting]:
    """Every value of the job, given or default, in the order of the schema."""
    settings = []
    for key, value in flatten(job).items():
        source = given[key].source if key in given else "default"
        settings.append(Setting(key, value, source))
    return settings


def flatten(job: Job) -> dict[str, Any]:
    """The job's values by dotted key."""
    flat: dict[str, Any] = {}
    for name, value in job.model_dump(mode="json").items():
        if name in SECTIONS:
            flat.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            flat[name] = value
    return flat
