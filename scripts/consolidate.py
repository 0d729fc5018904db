"""Turn a ZeRO checkpoint of DeepSpeed into safetensors, without DeepSpeed."""

from pathlib import Path

import click

from textassay.console import SPELLING, reports_errors, tell

FOLDER = click.Path(path_type=Path)
DTYPES = click.Choice(["float32", "bfloat16", "float16"])


@click.command(context_settings=SPELLING)
@click.argument("checkpoint", type=FOLDER)
@click.argument("target", metavar="OUT", type=FOLDER)
@click.option("--base_model_path", type=FOLDER, help="a directory with the config and tokenizer")
@click.option("--dtype", type=DTYPES, default="float32", help="of the weights [default: float32]")
@click.option("--max_shard_size", default="5GB", help="bytes a file, as 5GB [default: 5GB]")
@click.option("--dry_run", is_flag=True, help="say what is there, and write nothing")
@click.option("--force", is_flag=True, help="replace an OUT that a consolidation made")
@reports_errors
def main(
    checkpoint: Path, target: Path, base_model_path: Path | None, dtype: str, max_shard_size: str,
    dry_run: bool, force: bool,
) -> None:  # fmt: skip
    """Write the weights in CHECKPOINT (checkpoint-N/, global_stepN/ or above) to OUT.

    Reads any world size of ZeRO stage 1, 2 and 3; writes a model, or the adapter that was trained.
    """
    from textassay.artifacts.consolidate import (
        DTYPES,
        consolidate,
        parse_size,
        plan_consolidation,
        refuse_target,
    )
    from textassay.artifacts.zero import open_checkpoint

    limit = parse_size(max_shard_size)
    refuse_target(checkpoint, base_model_path, target, force)
    plan = plan_consolidation(open_checkpoint(checkpoint), base_model_path)
    tell(plan.describe())
    if not dry_run:
        for shard in consolidate(plan, target, DTYPES[dtype], limit):
            tell(f"written    {shard}")


if __name__ == "__main__":
    main()
