"""Prune a tuned classifier: take attention heads and feed-forward units away, and recover."""

from pathlib import Path

import click

from textassay.config.user_path import UserPath
from textassay.console import SPELLING, Command, reports_errors

FOLDER = UserPath()
COUNT = click.IntRange(min=1)
SEED = click.IntRange(0, 2**32 - 1)
POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command(cls=Command, context_settings={**SPELLING, "show_default": True})
@click.argument("artifact", metavar="MODEL", type=FOLDER)
@click.option("--heads", type=float, default=0.33, help="share of attention heads to take away")
@click.option("--ffn", type=float, default=0.33, help="share of feed-forward units to take away")
@click.option("--recovery_epochs", type=POSITIVE, default=3.0, help="of training afterwards")
@click.option("--recovery_steps", type=COUNT, help="optimizer steps instead of epochs")
@click.option("--learning_rate", type=POSITIVE, default=5e-5, help="of that training")
@click.option("--seed", type=SEED, help="of that training [default: the run's]")
@click.option("--output_dir", type=FOLDER, help="a run's [default: runs/<job>-pruned/seed-<k>]")
@click.option("--base_model_path", help="the base of an adapter, where it moved")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--force", is_flag=True, help="replace a run that is there")
@click.option(
    "--allow_unlearned",
    is_flag=True,
    envvar="TEXTASSAY_EVALUATION__ALLOW_UNLEARNED",
    help="exit code 0 where recovery did not learn",
)
@reports_errors
def main(
    artifact: Path, heads: float, ffn: float, recovery_epochs: float, recovery_steps: int | None,
    learning_rate: float, seed: int | None, output_dir: Path | None, base_model_path: str | None,
    device: str, force: bool, allow_unlearned: bool,
) -> None:  # fmt: skip
    """Make MODEL, a run or an artifact in one, smaller and faster.

    In every layer the heads and units that matter least on validation rows are cut out of the
    weights. The result is a run: pruned/ is the model before its recovery, model/ after it, and a
    table shows size, speed and test scores of both beside the original's.
    """
    from textassay.evaluation.learned import refuse_unlearned
    from textassay.pruning.outcome import print_outcome
    from textassay.pruning.prune import Request, prune
    from textassay.pruning.recovery import Recovery

    recovery = Recovery(recovery_epochs, recovery_steps, learning_rate, seed)
    request = Request(artifact, heads, ffn, recovery, output_dir, base_model_path, device, force)
    outcome = prune(request)
    print_outcome(outcome)
    refuse_unlearned(outcome.run, allow_unlearned)


if __name__ == "__main__":
    main()
