"""A stranger's job file sends nothing out, and writes nowhere that is not said before."""

import json

import pytest

from textassay.config.load import resolve_job
from textassay.config.own_choices import DEEPSPEED, TRACKERS
from textassay.config.schema import SECTIONS, TrainingSection
from textassay.config.trainer_fields import ELSEWHERE, FIXED, LIMITS
from textassay.errors import UsageError

# Settings of training that change what is computed, printed or kept in the run, and nothing else.
INSIDE_THE_RUN = {
    "activation_checkpointing", "activation_checkpointing_kwargs", "adam_beta1", "adam_beta2",
    "adam_epsilon", "average_tokens_across_devices", "class_weights", "data_seed",
    "dataloader_drop_last", "dataloader_multiprocessing_context", "dataloader_num_workers",
    "dataloader_persistent_workers", "dataloader_pin_memory", "dataloader_prefetch_factor",
    "ddp_backend", "ddp_timeout", "disable_tqdm", "early_stopping_patience",
    "early_stopping_threshold", "eval_accumulation_steps", "eval_delay", "eval_on_start",
    "eval_steps", "eval_strategy", "eval_use_gather_object", "fewest_steps", "full_determinism",
    "gradient_accumulation_steps", "gradient_checkpointing", "gradient_checkpointing_kwargs",
    "greater_is_better", "include_num_input_tokens_seen", "label_smoothing_factor",
    "learning_rate", "liger_kernel_config", "log_level", "log_level_replica",
    "log_on_each_node", "logging_first_step", "logging_steps", "logging_strategy",
    "lr_scheduler_kwargs", "lr_scheduler_type", "max_grad_norm", "max_steps",
    "metric_for_best_model", "neftune_noise_alpha", "num_train_epochs", "optim", "optim_args",
    "optim_target_modules", "per_device_eval_batch_size", "per_device_train_batch_size",
    "precision", "save_steps", "save_strategy", "save_total_limit", "skip_memory_metrics",
    "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode",
    "torch_empty_cache_steps", "train_sampling_strategy", "use_cache", "use_liger_kernel",
    "warmup_steps", "weight_decay",
    "run_name",  # a name at a tracker, which is the user's own choice
}  # fmt: skip
# Of the other sections, those that name something outside the run: it is read, or, of the last
# two, written to, which is said before the training.
READ_FROM = {
    "data.name", "data.path", "data.train_file", "data.validation_file", "data.test_file",
    "model.model_name_or_path", "model.revision", "distillation.teacher",
    "distillation.unlabelled_files", DEEPSPEED,
}  # fmt: skip
WRITTEN_TO = {"artifact.runs_dir", "artifact.final_model_dir"}
# And those that name nothing outside.
OTHERS_INSIDE = {
    "data": "text_column label_column column_names encoding delimiter quotechar escapechar "
    "skip_rows labels label_type normalize_labels prompt on_bad_rows max_samples test_size "
    "validation_size split_seed",
    "model": "max_seq_length head load_in_4bit bnb_4bit_quant_type bnb_4bit_use_double_quant "
    "bnb_4bit_compute_dtype",
    "method": "name",
    "distillation": "temperature alpha student_layers",
    "deepspeed": "zero_stage offload_optimizer offload_param",
    "evaluation": "confidence bootstrap_samples baselines probe_rows calibrate allow_unlearned",
    "artifact": "save_merged save_bin",
    "resources": "device nproc_per_node nodes gpus_per_node cpus_per_task mem time",
}


def test_of_every_setting_it_is_decided_what_it_may_do_outside_the_run() -> None:
    """A new one has to be added to one of the tables here; a tracker also to TRACKERS."""
    training = {*TrainingSection.model_fields, *LIMITS}
    assert training == INSIDE_THE_RUN | set(TRACKERS)
    assert training.isdisjoint({*ELSEWHERE, *FIXED})
    others = {f"{section}.{name}" for section, model in SECTIONS.items() if section != "training"
              for name in model.model_fields}  # fmt: skip
    inside = {f"{section}.{name}" for section, names in OTHERS_INSIDE.items()
              for name in names.split()}  # fmt: skip
    assert others == READ_FROM | WRITTEN_TO | inside


def resolve(job, **flags):
    return resolve_job(job, None, {}, {key.replace("__", "."): v for key, v in flags.items()}, None)


SENDS = [
    ("report_to", "wandb"),
    ("report_to", "all"),
    ("report_to", "[wandb, mlflow]"),
    ("report_to", "[tensorboard, wandb]"),
    ("project", "theirs/x"),
    ("trackio_space_id", "theirs/space"),
    ("trackio_bucket_id", "b"),
    ("trackio_static_space_id", "theirs/s"),
    ("trackio_static_space_id", "true"),
]
ODD = ["{a: 1}", "[{a: 1}]", "[[wandb]]", "true", "1.5"]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [*SENDS, *(("report_to", odd) for odd in ODD)])
def test_a_job_file_sends_no_figures_out(name, value, write) -> None:
    job = write("theirs.yaml", f"training: {{{name}: {value}}}")
    with pytest.raises(UsageError) as caught:
        resolve(job)
    said = str(caught.value)
    assert said.startswith(f"{job}: training.{name} would send") and f"--{name}" in said
    assert len(said) < 600


@pytest.mark.parametrize(("name", "value"), SENDS)
def test_the_user_may(name, value, write) -> None:
    job, text = write("mine.yaml", "training: {report_to: none}"), value.strip("[]")
    by_flag = resolve(job, **{f"training__{name}": text})[0].training.model_dump()[name]
    variables = {f"TEXTASSAY_TRAINING__{name.upper()}": text}
    by_variable = resolve_job(job, None, variables, {}, None)[0].training.model_dump()[name]
    env = write("mine.env", "\n".join(f"{key}={text}" for key, text in variables.items()))
    by_file = resolve_job(job, env, {}, {}, None)[0].training.model_dump()[name]
    assert by_flag == by_variable == by_file != "none"


@pytest.mark.parametrize("nothing", ["none", "[]", "[none]", "tensorboard"])
def test_a_job_file_may_say_that_nothing_is_sent(nothing, write) -> None:
    resolve(write("a.yaml", f"training: {{report_to: {nothing}}}"))


@pytest.mark.parametrize("key", ["push_to_hub: true", "hub_model_id: me/x", "hub_token: abc"])
def test_nobody_can_have_a_run_uploaded(key, write) -> None:
    with pytest.raises(UsageError, match="a run uploads nothing"):
        resolve(write("theirs.yaml", f"training: {{{key}}}"))
    name, value = key.split(": ")
    with pytest.raises(UsageError, match="a run uploads nothing"):
        resolve(None, **{f"training__{name}": value})


@pytest.mark.parametrize(
    "content",
    [
        {"wandb": {"enabled": True}},
        {"tensorboard": {"enabled": True, "output_path": "/tmp/x"}},
        {"csv_monitor": {"enabled": True, "output_path": "/tmp/x"}},
        {"comet": {"enabled": True}},
        {"flops_profiler": {"enabled": True, "output_file": "/tmp/x"}},
        {"nebula": {"enabled": True, "persistent_storage_path": "/tmp/x"}},
        {"autotuning": {"enabled": True}},
        {"zero_optimization": {"offload_param": {"device": "nvme", "nvme_path": "/tmp/x"}}},
        {"zero_optimization": {"offload_optimizer": {"device": "nvme"}}},
    ],
    ids=lambda content: next(iter(content)),
)
def test_a_deepspeed_configuration_of_a_job_only_computes(content, write) -> None:
    config = write("ds.json", json.dumps({"fp16": {"enabled": "auto"}, **content}))
    job = write("theirs.yaml", f"launcher: deepspeed\ndeepspeed: {{config_file: {config}}}")
    with pytest.raises(UsageError, match="counts only in a file that you name yourself"):
        resolve(job)
    mine = write("mine.yaml", "launcher: deepspeed")
    assert resolve(mine, deepspeed__config_file=str(config))[0].deepspeed.config_file


def test_a_deepspeed_configuration_that_computes_is_taken(write) -> None:
    offload = {"stage": 3, "offload_param": {"device": "cpu"}, "offload_optimizer": {}}
    config = write("ds.json", json.dumps({"zero_optimization": offload}))
    job = write("a.yaml", f"launcher: deepspeed\ndeepspeed: {{config_file: {config}}}")
    assert resolve(job)[0].deepspeed.config_file == str(config)
    for odd in ("[]", "{", '{"zero_optimization": 3}'):
        config.write_text(odd)
        resolve(job)  # said where it is read


TOKEN = "hf_" + "aB3" * 11


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.path", "https://me:secret@host/a.csv"), ("training.run_name", TOKEN),
        ("model.model_name_or_path", TOKEN), ("data.labels", f"a,{TOKEN}"),
        ("training.optim_args", f"key={TOKEN}"), ("method.target_modules", TOKEN),
        ("training.hub_token", TOKEN), ("name", TOKEN),
    ],
)  # fmt: skip
def test_a_setting_is_no_place_for_a_token(key, value) -> None:
    """Settings are stored with the run, and some of them in the artifact."""
    with pytest.raises(UsageError, match=f"^flag: {key} holds what looks like a token") as caught:
        resolve_job(None, None, {}, {key: value}, None)
    assert TOKEN not in str(caught.value) and "secret@" not in str(caught.value)
