"""What `--help` shows of a command with hundreds of settings: twenty, in groups, and then all."""

from collections.abc import Iterable
from typing import Any

import click

from textassay.config.aliases import ALIASES, keys_of_flags
from textassay.console import Command

SWITCH = ("true", "false")
# The settings that people use; `--help_all` shows the others, too.
COMMON = {
    "Data": (
        "data_name", "data_path", "text_column", "label_column", "max_samples", "test_size",
    ),
    "Model and method": (
        "model_name_or_path", "max_seq_length", "method", "lora_r", "load_in_4bit",
    ),
    "Training": (
        "num_train_epochs", "learning_rate", "per_device_train_batch_size",
        "gradient_accumulation_steps", "precision", "early_stopping_patience", "device",
    ),
    "The run": (
        "name", "seeds", "output_dir", "env_file", "resume_from_checkpoint", "force", "show_config",
    ),
}  # fmt: skip
ALL = "help_all"


class Choices(click.Choice[str]):
    """Words that help and completion show. What is given is checked by the schema."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value as it is."""
        return value


class CommandWithSettings(Command):
    """A command whose `--help` shows COMMON, and whose `--help_all` shows every option."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All options, `--help_all` and `--help` last."""
        *others, show_help = super().get_params(ctx)
        show_all = click.Option(
            [f"--{ALL}"], is_flag=True, is_eager=True, expose_value=False, callback=_show_all,
            help="show the other settings, too, and exit",
        )  # fmt: skip
        return [*others, show_all, show_help]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        options = {option.name or "": option for option in self.get_params(ctx)
                   if isinstance(option, click.Option)}  # fmt: skip
        left = dict(options)
        for heading, names in COMMON.items():
            _write(ctx, formatter, heading, [left.pop(name) for name in names if name in left])
        own = [left.pop(name) for name in list(left) if name in (ALL, "help", *_own(left))]
        if ctx.meta.get(ALL):
            for heading, section in _sections(left).items():
                _write(ctx, formatter, heading, [left[name] for name in section])
        _write(ctx, formatter, "Options", own)


def _show_all(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[ALL] = True
        click.echo(ctx.get_help())
        ctx.exit()


def _own(options: Iterable[str]) -> list[str]:
    """The options of this one command, which are no settings of a job."""
    settings = keys_of_flags().keys() | {"use_lora", "use_qlora", "local_rank"}
    return [name for name in options if name not in settings]


def _sections(options: Iterable[str]) -> dict[str, list[str]]:
    """{heading: options} for the settings that are not common, by the sections of a job file."""
    found: dict[str, list[str]] = {}
    for name in options:
        key = keys_of_flags().get(name, "")
        heading = "Other names" if name in ALIASES or not key else key.partition(".")[0]
        found.setdefault(heading, []).append(name)
    return found


def _write(
    ctx: click.Context, formatter: click.HelpFormatter, heading: str, options: list[click.Option]
) -> None:
    rows = []
    for option in options:
        hidden, option.hidden = option.hidden, option.hidden and not ctx.meta.get(ALL)
        rows.append(option.get_help_record(ctx))
        option.hidden = hidden
    shown = [row for row in rows if row]
    if shown:
        with formatter.section(heading):
            formatter.write_dl(shown)
