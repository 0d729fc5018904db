"""Fine-tune a classifier with LoRA or another PEFT method: one job, one seed, one run."""

from typing import TYPE_CHECKING

from textassay.config.flags import run_options

if TYPE_CHECKING:
    from textassay.config.runs import Run


@run_options(launcher="lora")
def main(run: "Run") -> None:
    """Fine-tune with LoRA or another PEFT method, from JOB_FILE or from flags alone."""
    from textassay.training.run import carry_out

    carry_out(run)


if __name__ == "__main__":
    main()
