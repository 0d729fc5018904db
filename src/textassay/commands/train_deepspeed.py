"""Fine-tune a classifier with DeepSpeed ZeRO: started by torchrun, deepspeed, or alone."""

from typing import TYPE_CHECKING

from textassay.config.flags import run_options

if TYPE_CHECKING:
    from textassay.config.runs import Run


@run_options(launcher="deepspeed")
def main(run: "Run") -> None:
    """Fine-tune with ZeRO, all weights or any PEFT method; torchrun says how many processes."""
    from textassay.training.ranks import prepare_rank

    prepare_rank(run.job.resources.device)  # before anything imports DeepSpeed
    from textassay.training.run import carry_out

    carry_out(run)


def start() -> None:
    """Run the command as a process of its own."""
    from textassay.training.ending import ending_at_once

    with ending_at_once():
        main()


if __name__ == "__main__":
    start()
