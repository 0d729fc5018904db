"""Settings that change nothing beside the job's other settings; a run says which."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from textassay.config.schema import SECTIONS


class Needs(NamedTuple):
    """`settings` count only where `holds(value of needed)`; None stands for no value."""

    settings: tuple[str, ...]
    needed: str
    holds: Callable[[Any], bool]


def _keys(section: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{section}.{name}" for name in names)


def _is(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value in values


def _is_not(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value not in values


RULES = (
    Needs(_keys("training", "eval_steps"), "training.eval_strategy", _is("steps")),
    Needs(_keys("training", "save_steps"), "training.save_strategy", _is("steps")),
    Needs(_keys("training", "logging_steps"), "training.logging_strategy", _is(None, "steps")),
    Needs(_keys("training", "early_stopping_threshold"), "training.early_stopping_patience",
          _is_not(None)),
    Needs(_keys("training", "gradient_checkpointing_kwargs"), "training.gradient_checkpointing",
          bool),
    Needs(_keys("training", "activation_checkpointing_kwargs"),
          "training.activation_checkpointing", bool),
    Needs(_keys("training", "warmup_steps"), "training.lr_scheduler_type",
          _is_not("constant", "reduce_lr_on_plateau", "greedy")),
    Needs(_keys("training", "num_train_epochs", "fewest_steps"), "training.max_steps", _is(-1)),
    Needs(_keys("training", "run_name", "project", "trackio_space_id", "trackio_bucket_id",
                "trackio_static_space_id"), "training.report_to", _is_not("none")),
    Needs(_keys("training", "liger_kernel_config"), "training.use_liger_kernel", bool),
    Needs(_keys("training", "optim_target_modules"), "training.optim",
          lambda optim: str(optim).startswith(("galore", "apollo"))),
    Needs(_keys("training", "adam_beta1", "adam_beta2", "adam_epsilon"), "training.optim",
          lambda optim: not str(optim).startswith(("adafactor", "sgd", "adagrad", "rmsprop"))),
    Needs(_keys("training", "ddp_backend", "ddp_timeout"), "launcher", _is("deepspeed")),
    Needs(_keys("model", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant",
                "bnb_4bit_compute_dtype"), "model.load_in_4bit", bool),
    Needs(_keys("distillation", "temperature", "alpha"), "distillation.teacher", _is_not(None)),
    Needs(_keys("deepspeed", "zero_stage", "offload_optimizer", "offload_param"),
          "deepspeed.config_file", _is(None)),
    Needs((*_keys("deepspeed", *SECTIONS["deepspeed"].model_fields),
           "resources.nproc_per_node"), "launcher", _is("deepspeed")),
)  # fmt: skip


def without_effect(values: dict[str, Any], named: Iterable[str]) -> list[str]:
    """A sentence for each of the `named` settings that has another value than its default, and no
    effect. `values` are all of the job's by dotted key.
    """
    chosen = [key for key in named if values.get(key) != _default(key)]
    return [
        f"{key} has no effect, since {rule.needed} is {_shown(values.get(rule.needed))}"
        for rule in RULES
        if not rule.holds(values.get(rule.needed))
        for key in chosen
        if key in rule.settings
    ]


def _default(key: str) -> Any:
    section, _, name = key.rpartition(".")
    field = SECTIONS[section].model_fields.get(name) if section in SECTIONS else None
    return field.default if field else None


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value).lower() if value is False else str(value)
