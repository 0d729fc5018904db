"""`textassay`: every command under one name. What a command needs is imported when it is called."""

import importlib
import sys

import click

from textassay import __version__

# What `textassay --help` shows: {heading: {command: what it does}}.
SECTIONS = {
    "Start": {
        "train": "train on a data file or a job file: all seeds, then a summary",
        "predict": "label texts: typed, piped, or a whole file",
    },
    "Data": {"clean": "write a clean copy of a data file, and a report of what changed"},
    "Train one run": {
        "train-full": "tune every weight",
        "train-lora": "tune with LoRA or another PEFT method",
        "train-deepspeed": "tune with DeepSpeed ZeRO, in several processes",
        "distill": "train a small model on the answers of a larger one",
        "prune": "remove the words, heads or layers that a model can do without",
    },
    "Judge": {
        "evaluate": "score runs, artifacts and checkpoints on test rows",
        "compare": "compare two artifacts on the same rows",
        "verify": "check an artifact against its hallmark",
        "doctor": "find out what is wrong with an artifact, and how to mend it",
    },
    "Ship": {
        "export": "write a merged model, ONNX, or INT8 ONNX",
        "consolidate": "write the weights of a ZeRO checkpoint as one model",
        "serve": "answer over HTTP",
    },
    "Cluster": {
        "plan": "estimate memory, disk and time of a job",
        "submit": "submit a job to Slurm",
    },
}
# Where a command's module has another name than the command.
MODULES = {"train": "train_batch"}
NAMES = {name: text for commands in SECTIONS.values() for name, text in commands.items()}
WIDEST = 110


class CommandGroup(click.Group):
    """A group whose commands are imported one by one, since most of them are not asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of the help text."""
        return list(NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; None where there is none."""
        name = cmd_name.replace("_", "-")
        if name not in NAMES:
            return None
        module = MODULES.get(name, name.replace("-", "_"))
        command: click.Command = importlib.import_module(f"textassay.commands.{module}").main
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names, and the other arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return (name and name.replace("_", "-")), command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings, without importing them."""
        widest = max(map(len, NAMES))
        for heading, commands in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(widest), text) for name, text in commands.items()])


@click.group(
    cls=CommandGroup,
    context_settings={"max_content_width": WIDEST},
    epilog="`textassay COMMAND --help` shows the options of a command. Completion in bash: "
    'eval "$(_TEXTASSAY_COMPLETE=bash_source textassay)"; zsh_source and fish_source likewise.',
)
@click.version_option(__version__, package_name="textassay")
def main() -> None:
    """Fine-tune, evaluate and ship text classifiers, with artifacts that carry proof.

    `textassay train my.csv` trains on a file of texts and labels, three times with different seeds,
    and compares the result with simple baselines.
    """


def start() -> None:
    """Run the command line as a process of its own."""
    if sys.argv[1:2] in (["train-deepspeed"], ["train_deepspeed"]):
        from textassay.commands.train_deepspeed import start as start_rank

        sys.argv = [f"{sys.argv[0]} {sys.argv[1]}", *sys.argv[2:]]
        start_rank()
    main(prog_name="textassay")
