"""Turn a ZeRO checkpoint of DeepSpeed into safetensors, without DeepSpeed."""

from pathlib import Path

import click

from textassay.config.user_path import UserPath
from textassay.console import SPELLING, Command, reports_errors, tell

FOLDER = UserPath()
DTYPES = click.Choice(["float32", "bfloat16", "float16"])


@click.command(cls=Command, context_settings=SPELLING)
@click.argument("checkpoint", type=FOLDER)
@click.argument("target", metavar="OUT", type=FOLDER)
@click.option("--base_model_path", help="the base: for its config and tokenizer, or to merge into")
@click.option("--dtype", type=DTYPES, default="float32", help="of the weights [default: float32]")
@click.option("--max_shard_size", default="5GB", help="bytes a file, as 5GB [default: 5GB]")
@click.option("--merge", is_flag=True, help="an adapter: put it into its base and write a model")
@click.option("--no_hallmark", is_flag=True, help="do not load, stamp and verify what is written")
@click.option("--dry_run", is_flag=True, help="say what is there, and write nothing")
@click.option("--force", is_flag=True, help="replace an OUT that a consolidation made")
@reports_errors
def main(
    checkpoint: Path, target: Path, base_model_path: str | None, dtype: str, max_shard_size: str,
    merge: bool, no_hallmark: bool, dry_run: bool, force: bool,
) -> None:  # fmt: skip
    """Write the weights in CHECKPOINT (checkpoint-N/, global_stepN/ or above) to OUT.

    Reads any world size of ZeRO stage 1, 2 and 3; writes a model, or the adapter that was trained,
    with config, tokenizer, labels and a hallmark.
    """
    from textassay.artifacts.zero.consolidate import DTYPES, parse_size, refuse_target
    from textassay.artifacts.zero.publish import Wanted, plan_artifact, publish_consolidated
    from textassay.console import byte_progress

    wanted = Wanted(DTYPES[dtype], parse_size(max_shard_size), merge, not no_hallmark)
    refuse_target(checkpoint, base_model_path, target, force)
    plan = plan_artifact(checkpoint, base_model_path)
    tell(plan.describe())
    if not dry_run:
        with byte_progress("writing", plan.bytes_in(wanted.dtype)) as wrote:
            proof = publish_consolidated(plan, target, base_model_path, wanted, wrote)
        tell(f"written    {target} ({proof})")


if __name__ == "__main__":
    main()
