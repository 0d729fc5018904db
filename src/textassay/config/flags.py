"""Command lines made from the schema: every setting is a flag, with `-` or `_`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textassay.config.aliases import ALIASES, PRECISION_FLAGS, keys_of_flags
from textassay.config.flag_table import FLAGS
from textassay.config.help import SWITCH, Choices, CommandWithSettings
from textassay.config.user_path import JobPath, UserPath
from textassay.console import SPELLING, reports_errors
from textassay.errors import UsageError
from textassay.stopping import heeding_signals

if TYPE_CHECKING:
    from textassay.config.load import Setting
    from textassay.config.runs import Run
    from textassay.config.schema import Job

RESUME = "--resume_from_checkpoint="
# What train.sh takes for data without a job: enough runs for a mean and a spread.
SEEDS_FOR_DATA = "0,42,123"
EPILOG = (
    "Every field of transformers' TrainingArguments and of the PEFT method's config is a flag too, "
    "by its own name. Lists are separated by commas. See docs/configuration.md."
)


def run_options(launcher: str) -> Callable[[Callable[["Run"], Any]], click.Command]:
    """A Click command around `function(run)`: one job file or none, any flag, one run."""

    def decorate(function: Callable[["Run"], Any]) -> click.Command:
        @reports_errors
        def callback(job_file: Path | None, output_dir: Path | None, **given: Any) -> None:
            with heeding_signals():
                run = _one_run(job_file, launcher, output_dir, given)
                if run:
                    function(run)

        command = _run_command(callback, function.__doc__)
        # The `deepspeed` command gives it to every process, which reads it from the environment.
        command.params.append(click.Option(["--local_rank"], hidden=True, expose_value=False))
        return command

    return decorate


def student_options(function: Callable[["Run"], Any]) -> click.Command:
    """A Click command around `function(run)`: a teacher, one job file or none, any flag, one run.

    Without a job the student is tuned whole, or with the PEFT method that --method names.
    """

    @reports_errors
    def callback(job_file: Path | None, output_dir: Path | None, **given: Any) -> None:
        by_adapter = given["method"] not in (None, "full") or given["use_lora"] == "true"
        launcher = None if job_file else "lora" if by_adapter else "full"
        with heeding_signals():
            run = _one_run(job_file, launcher, output_dir, given)
            if run:
                function(run)

    command = _run_command(callback, function.__doc__)
    command.params = [option for option in command.params if option.name != "teacher"]
    command.params.insert(0, click.Argument(["teacher"]))
    return command


def _run_command(callback: Callable[..., None], doc: str | None) -> click.Command:
    command = _command(callback, doc)
    command.params.insert(0, click.Argument(["job_file"], required=False, type=JobPath()))
    where = "the run's directory [default: runs/<job>/seed-<k>]"
    command.params += _setting_options() + _run_controls(where)
    return command


def _one_run(
    job_file: Path | None, launcher: str | None, output_dir: Path | None, given: dict[str, Any]
) -> "Run | None":
    """The run that was asked for; None where its settings were only to be printed, which is done.

    It is that of the job's first seed.
    """
    from textassay.config.effects import without_effect
    from textassay.config.runs import Run
    from textassay.console import say, warn

    job, settings = _resolve(job_file, launcher, given)
    named = [setting.key for setting in settings if setting.source != "default"]
    for note in without_effect({setting.key: setting.value for setting in settings}, named):
        warn(note)
    if given["show_config"]:
        _print_settings(settings)
        return None
    seed = job.seeds[0]
    if len(job.seeds) > 1:
        say(f"seed {seed}, the first of {len(job.seeds)}; bash train.sh runs them all")
    path = output_dir or Path(job.artifact.runs_dir) / job.name / f"seed-{seed}"
    return Run(job, seed, path, given["force"], given["resume_from_checkpoint"])


def batch_options(function: Callable[..., Any]) -> click.Command:
    """A Click command around `function(runs, overrides)`: any number of jobs, all their seeds.

    A data file or a folder is a job of its own, named after it, with three seeds; so is what
    --data_path, --data_name or --train_file names where there is no job.
    """

    @reports_errors
    def callback(job_files: tuple[Path, ...], output_dir: Path | None, **given: Any) -> None:
        from textassay.config.runs import runs_of
        from textassay.files import project_root

        runs = []
        named: tuple[Path | None, ...] = job_files
        data_is_named = _names_data(given)
        if not named:  # a .env file is a job of its own
            quickstart = project_root() / "jobs" / "quickstart.yaml"
            named = (None,) if given["env_file"] or data_is_named else (quickstart,)
        for job_file in named:
            told, launcher = _told_of_data(given, job_file, data_is_named)
            job, settings = _resolve(job_file, launcher, told)
            if given["show_config"]:
                _print_settings(settings)
            runs.append(
                (job_file, runs_of(job, output_dir or Path(job.artifact.runs_dir), given["force"]))
            )
        if not given["show_config"]:
            function(runs, _as_arguments(given))

    command = _command(callback, function.__doc__)
    command.params.insert(0, click.Argument(["job_files"], nargs=-1, type=JobPath()))
    where = "the directory above <job>/seed-<k> [default: runs]"
    command.params += _setting_options() + _run_controls(where)
    return command


def _names_data(given: dict[str, Any]) -> bool:
    """Whether a flag says which rows, by whatever name."""
    from textassay.config.load import ROWS

    return not _overrides(given).keys().isdisjoint(ROWS)


def _told_of_data(
    given: dict[str, Any], job_file: Path | None, data_is_named: bool
) -> tuple[dict[str, Any], str | None]:
    """The flags and the launcher for data without a job; else the flags as they are, and None.

    Three seeds unless seeds are named. All weights of the small default base are tuned, which
    learns more than an adapter does; another base, or method, is left to LoRA.
    """
    from textassay.config.load import BASE, is_data

    has_no_job = is_data(job_file) if job_file else data_is_named and not given["env_file"]
    if not has_no_job:
        return given, None
    chosen = _overrides(given).keys()
    launcher = "full" if chosen.isdisjoint({"method.name", BASE}) else None
    if "seeds" not in chosen:
        given = {**given, "seeds": SEEDS_FOR_DATA}
    return given, launcher


def _command(callback: Callable[..., None], doc: str | None) -> click.Command:
    return CommandWithSettings(
        name=None,
        callback=callback,
        help=doc,
        epilog=EPILOG,
        context_settings={**SPELLING, "help_option_names": ["--help"]},
    )


def _setting_options() -> list[click.Option]:
    options = [_option(flag, text, shown, choices) for flag, _, text, shown, choices in FLAGS]
    for flag, key in PRECISION_FLAGS.items():
        options.append(_option(flag, f"the same as {key}", True, SWITCH))
    options.append(_option("use_lora", "the same as --method lora", True, SWITCH))
    options.append(_option("use_qlora", "--method lora with --load_in_4bit", True, SWITCH))
    return options + [_option(f, f"the same as {k}", True, ()) for f, k in ALIASES.items()]


def _option(flag: str, text: str, shown: bool, choices: tuple[str, ...]) -> click.Option:
    if choices == SWITCH:  # both `--bf16` and `--bf16 false`
        return click.Option([f"--{flag}"], is_flag=False, flag_value="true", help=text,
                            hidden=not shown, type=Choices(choices))  # fmt: skip
    if choices:
        return click.Option([f"--{flag}"], help=text, hidden=not shown, type=Choices(choices))
    return click.Option([f"--{flag}"], help=text, hidden=not shown, metavar="VALUE")


def _run_controls(where: str) -> list[click.Option]:
    return [
        click.Option(["--output_dir"], type=UserPath(), help=where),
        click.Option(["--env_file"], type=UserPath(), help="a .env file with TEXTASSAY_ variables"),
        click.Option(
            ["--resume_from_checkpoint"],
            default="auto",
            help="auto: the newest complete checkpoint of this run; none; or a path",
        ),
        click.Option(["--force"], is_flag=True, help="replace the run that is there"),
        click.Option(["--show_config"], is_flag=True, help="print every value and its source"),
    ]


def _resolve(
    job_file: Path | None, launcher: str | None, given: dict[str, Any]
) -> tuple["Job", list["Setting"]]:
    from textassay.config.load import resolve_job

    return resolve_job(job_file, given["env_file"], os.environ, _overrides(given), launcher)


def _overrides(given: dict[str, Any]) -> dict[str, str]:
    """The settings that flags name. UsageError where two flags say two things about one."""
    chosen: dict[str, str] = {}
    named: dict[str, str] = {}

    def choose(flag: str, key: str, value: str) -> None:
        if chosen.setdefault(key, value) != value:
            raise UsageError(
                f"flag: --{named[key]} and --{flag} both set {key}, to {chosen[key]!r} and "
                f"{value!r}; give one of them."
            )
        named.setdefault(key, flag)

    for flag, value in given.items():
        if flag in keys_of_flags() and value is not None:
            choose(flag, keys_of_flags()[flag], value)
    for flag in ("use_lora", "use_qlora"):
        if given.get(flag) == "true":
            choose(flag, "method.name", "lora")
    if given.get("use_qlora") == "true":
        choose("use_qlora", "model.load_in_4bit", "true")
    return chosen


def _as_arguments(given: dict[str, Any]) -> list[str]:
    """The flags that were given, as a launcher takes them; seeds and folders it gets one by one."""
    left_out = {"seeds", "seed", "output_dir", "force", "show_config", "resume_from_checkpoint"}
    arguments = [RESUME + given["resume_from_checkpoint"]]
    for name, value in given.items():
        if value is not None and name not in left_out:
            arguments.append(f"--{name}={value}")
    return arguments


def _print_settings(settings: list["Setting"]) -> None:
    from rich.markup import escape

    from textassay.console import out, table

    rows = [(s.key, escape(str(s.value)), escape(s.source)) for s in settings]
    out().print(table("configuration", ["setting", "value", "source"], rows, of_texts=True))
