"""Every field of TrainingArguments does what its name says, or is refused with the reason."""

import pytest

from textassay.config.library_fields import TRAINING_ARGUMENTS
from textassay.config.load import resolve_job
from textassay.config.schema import TrainingSection
from textassay.config.trainer_fields import ELSEWHERE, FIXED, LIMITS
from textassay.errors import UsageError

OWN = {*TrainingSection.model_fields, "bf16", "fp16"}


def settings_of(**given):
    job, _ = resolve_job(None, None, {}, {f"training.{k}": v for k, v in given.items()}, None)
    return job.training.library_settings()


def test_every_field_of_the_library_stands_in_one_table():
    tables = [OWN, set(ELSEWHERE), set(FIXED), set(LIMITS)]
    assert set().union(*tables) >= set(TRAINING_ARGUMENTS)
    assert sum(map(len, tables)) == len(set().union(*tables))
    assert set().union(*tables[1:]) <= set(TRAINING_ARGUMENTS)


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_field_may_say_what_holds_and_nothing_else(name):
    value = FIXED[name].value
    assert name not in settings_of(**{name: str(value)})
    with pytest.raises(UsageError) as caught:
        settings_of(**{name: str(not value)})
    said = str(caught.value)
    assert f"training.{name} is always {str(value).lower()}: {FIXED[name].reason}" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("adam_beta1", "1"), ("adam_beta2", "-0.1"), ("adam_epsilon", "0"), ("adam_epsilon", "nan"),
        ("label_smoothing_factor", "1.5"), ("label_smoothing_factor", "1"),
        ("neftune_noise_alpha", "-5"), ("torch_empty_cache_steps", "0"), ("data_seed", "-1"),
        ("eval_delay", "-1"), ("eval_delay", "inf"), ("eval_accumulation_steps", "0"),
        ("dataloader_num_workers", "-1"), ("dataloader_prefetch_factor", "0"),
        ("dataloader_multiprocessing_context", "thread"), ("logging_strategy", "sometimes"),
        ("log_level", "shout"), ("include_num_input_tokens_seen", "some"), ("ddp_timeout", "0"),
        ("dataloader_num_workers", "1.5"), ("optim", "1"), ("lr_scheduler_kwargs", "min_lr"),
        ("lr_scheduler_kwargs", "[1]"), ("full_determinism", "yes"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_name(name, value):
    if name == "optim":
        value = 1
    with pytest.raises(UsageError, match=rf"^flag: training\.{name} (must be|takes) "):
        settings_of(**{name: value})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr_scheduler_kwargs", '{"min_lr": 1e-5}', {"min_lr": 1e-5}),
        ("include_num_input_tokens_seen", "true", True),
        ("include_num_input_tokens_seen", "all", "all"),
        ("optim_target_modules", "query,value", ["query", "value"]),
        ("data_seed", "7", 7),
        ("report_to", "none", "none"),
        ("report_to", "wandb,mlflow", ["wandb", "mlflow"]),
    ],
)
def test_text_becomes_what_the_field_takes(name, text, value):
    assert settings_of(**{name: text})[name] == value


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "max_grad_norm", "warmup_steps",
                                  "logging_steps", "early_stopping_threshold"])  # fmt: skip
@pytest.mark.parametrize("value", [float("inf"), float("nan"), True, False, "many", [1]])
def test_a_number_is_a_finite_number(name, value):
    with pytest.raises(UsageError, match=rf"training\.{name}: "):
        settings_of(**{name: value})
