"""Settings that change nothing beside the others are named."""

import pytest

from textassay.config.effects import RULES, without_effect
from textassay.config.homes import keys_of_variables
from textassay.config.load import resolve_job
from textassay.config.schema import Job


def notes(**flags):
    given = {key.replace("__", "."): value for key, value in flags.items()}
    _, settings = resolve_job(None, None, {}, given, None)
    named = [setting.key for setting in settings if setting.source != "default"]
    return without_effect({setting.key: setting.value for setting in settings}, named)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"training__eval_steps": "5"}, "eval_steps has no effect, since training.eval_strategy"),
        ({"training__save_steps": "5"}, "save_steps has no effect, since training.save_strategy"),
        ({"training__max_steps": "5", "training__num_train_epochs": "2"}, "since training.max_ste"),
        ({"training__lr_scheduler_type": "constant", "training__warmup_steps": "9"}, "is constant"),
        ({"training__run_name": "x"}, "since training.report_to is none"),
        ({"training__gradient_checkpointing_kwargs": "{}"}, "since training.gradient_check"),
        ({"model__bnb_4bit_quant_type": "fp4"}, "since model.load_in_4bit is false"),
        ({"distillation__alpha": "0.9"}, "since distillation.teacher is not set"),
        ({"deepspeed__zero_stage": "2"}, "since launcher is lora"),
        ({"training__optim": "sgd", "training__adam_beta1": "0.8"}, "since training.optim is sgd"),
    ],
)
def test_what_has_no_effect_is_named_with_the_reason(flags, said):
    (note,) = notes(**flags)
    assert said in note


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"training__eval_steps": "5", "training__eval_strategy": "steps"},
        {"training__save_steps": "500"},  # the default
        {"training__adam_beta1": "0.8"},
        {"training__num_train_epochs": "2"},
        {"deepspeed__zero_stage": "2", "launcher": "deepspeed"},
    ],
)
def test_what_has_an_effect_is_not_named(flags):
    assert notes(**flags) == []


def test_every_rule_is_about_settings_that_there_are():
    known = {*keys_of_variables(), *Job.model_fields}
    for rule in RULES:
        assert {*rule.settings, rule.needed} <= known
