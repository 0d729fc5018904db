"""What makes a run the run that it is: the settings and the inputs that its weights depend on.

Both stand in its `config.yaml`, and are compared value by value: so a message can name what
changed, and a setting that a later version adds does not make another run of an old one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textassay.config.schema import SECTIONS, Job
from textassay.files import sha256_file, sha256_files, sha256_remembered, sha256_text

# No weight depends on these: they may change, and nothing has to be trained again.
HARMLESS = {"name", "seeds", "resources", "evaluation", "artifact"}
HARMLESS_IN_TRAINING = {
    "report_to", "run_name", "logging_dir", "logging_steps", "logging_first_step", "log_level",
    "disable_tqdm", "save_total_limit", "per_device_eval_batch_size", "eval_accumulation_steps",
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor",
    "dataloader_persistent_workers",
}  # fmt: skip
# Of these only counts whether there is one: what is in the files counts among the inputs.
BY_CONTENT = {"deepspeed.config_file", "distillation.teacher", "distillation.unlabelled_files"}
# Of the harmless ones these change what a finished run has published or measured.
MEASURED = ("evaluation.", "artifact.")
UNMEASURED = {"evaluation.allow_unlearned", "artifact.runs_dir"}
# What a run did that is older than a setting, where that is not the setting's default.
BEFORE_IT_WAS_KNOWN = {"training.fewest_steps": 0}
HALLMARK = "hallmark.json"
INPUTS_IN_WORDS = {
    "base_weights": "the weights of the base model",
    "base_config": "the config.json of the base model",
    "tokenizer": "the tokenizer",
    "teacher": "the teacher",
    "unlabelled_files": "the unlabelled texts",
    "deepspeed_config": "the DeepSpeed configuration",
}

Values = dict[str, Any]


def training_settings(content: Mapping[str, Any]) -> Values:
    """The settings that weights depend on, by dotted key, of a job or a `config.yaml`."""
    launcher = content.get("launcher")
    teacher = (content.get("distillation") or {}).get("teacher")
    left_out = set(HARMLESS)
    left_out |= set() if launcher == "deepspeed" else {"deepspeed"}
    left_out |= set() if teacher else {"distillation"}
    kept = {key: value for key, value in content.items() if key not in left_out}
    harmless = {f"training.{name}" for name in HARMLESS_IN_TRAINING}
    flat = flatten_sections(kept)
    return {key: bool(value) if key in BY_CONTENT else value
            for key, value in flat.items() if key not in harmless}  # fmt: skip


def measured_settings(content: Mapping[str, Any]) -> Values:
    """The settings of evaluation and of what is published, by dotted key."""
    flat = flatten_sections(content)
    return {key: value for key, value in flat.items()
            if key.startswith(MEASURED) and key not in UNMEASURED}  # fmt: skip


def flatten_sections(content: Mapping[str, Any]) -> Values:
    """{dotted key: value} of the sections and settings that a job has; anything else is left out.

    The seed is a run's, and counts like a setting.
    """
    flat: Values = {}
    for name, value in content.items():
        if name in SECTIONS:
            inner = value if isinstance(value, dict) else {}
            flat |= {f"{name}.{key}": setting for key, setting in inner.items()}
        elif name in Job.model_fields or name == "seed":
            flat[name] = value
    return flat


def differences(before: Values, now: Values) -> dict[str, tuple[Any, Any]]:
    """{key: (value before, value now)} of settings that differ.

    One that only one side has counts as having its default on the other side.
    """
    defaults = flatten_sections(Job().model_dump(mode="json")) | BEFORE_IT_WAS_KNOWN
    defaults |= dict.fromkeys(BY_CONTENT, False)
    sides = {key: (before.get(key, defaults.get(key)), now.get(key, defaults.get(key)))
             for key in {**before, **now}}  # fmt: skip
    return {key: (one, other) for key, (one, other) in sides.items() if one != other}


def input_files(job: Job) -> Values:
    """The hashes of the files that a job names beside its data and its base model."""
    inputs: Values = {}
    config = job.deepspeed.config_file
    if job.launcher == "deepspeed" and config and Path(config).is_file():
        inputs["deepspeed_config"] = sha256_file(Path(config))
    if job.distillation.teacher:
        inputs["teacher"] = _identity_of_teacher(job.distillation.teacher)
        if job.distillation.unlabelled_files:
            inputs["unlabelled_files"] = file_hashes(job.distillation.unlabelled_files)
    return inputs


def file_hashes(names: Sequence[str]) -> list[str]:
    """The hash of each file; a file that is not there stays a name."""
    return [sha256_file(path) if path.is_file() else str(path) for path in map(Path, names)]


def _identity_of_teacher(name: str) -> str:
    """The hash of a teacher's hallmark, which holds those of its files; else of the files.

    A name on a hub stays a name.
    """
    folder = Path(name)
    for stamp in (folder / HALLMARK, folder / "model" / HALLMARK):
        if stamp.is_file():
            return sha256_file(stamp)
    files = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return sha256_files(files, sha256_remembered) if files else name


def stored_inputs(config: Mapping[str, Any], provenance: Mapping[str, Any]) -> Values:
    """The inputs that a run has written down; of an older run those that its provenance tells."""
    if "inputs" in config:
        return dict(config["inputs"] or {})
    data = provenance.get("data", {})
    rows, hashes = data.get("rows", {}), data.get("fingerprints", {})
    inputs: Values = {split: {"rows": rows[split], "sha256": hashes[split]}
                      for split in hashes if split in rows}  # fmt: skip
    weights = provenance.get("base", {}).get("weights")
    teacher = provenance.get("teacher", {}).get("hallmark")
    return (
        inputs
        | ({"base_weights": weights} if weights else {})
        | ({"teacher": teacher} if teacher else {})
    )


def changed_inputs(before: Values, now: Values) -> list[str]:
    """What differs between two sets of inputs, in words; [] if nothing that both know does."""
    changed = []
    for split in ("train", "validation", "test"):
        one, other = before.get(split), now.get(split)
        if one and other and one != other:
            sizes = f" ({one['rows']:,} then, {other['rows']:,} now)"
            changed.append(f"the {split} rows{sizes if one['rows'] != other['rows'] else ''}")
    if before.get("labels") and now.get("labels") and before["labels"] != now["labels"]:
        changed.append("the labels")
    for name, words in INPUTS_IN_WORDS.items():
        if name in before and name in now and before[name] != now[name]:
            changed.append(words)
    return changed


def fingerprint(settings: Values, inputs: Values) -> str:
    """One hash of the settings and inputs: the name of a run in its checkpoints and artifacts."""
    return sha256_text(json.dumps([settings, inputs], sort_keys=True))
