"""Names of flags, those of other tools included, and the settings that they stand for."""

import functools

from textassay.config.flag_table import FLAGS

# What people type elsewhere, and the settings it stands for here.
ALIASES = {
    "num_epochs": "training.num_train_epochs",
    "epochs": "training.num_train_epochs",
    "batch_size": "training.per_device_train_batch_size",
    "model_path": "model.model_name_or_path",
    "model_max_length": "model.max_seq_length",
    "max_length": "model.max_seq_length",
    "dataset_name": "data.path",
    "student": "model.model_name_or_path",
    "unlabelled": "distillation.unlabelled_files",
    "seed": "seeds",
}
PRECISION_FLAGS = {"bf16": "training.bf16", "fp16": "training.fp16"}


@functools.cache
def keys_of_flags() -> dict[str, str]:
    """flag -> setting, aliases included."""
    return {flag: key for flag, key, *_ in FLAGS} | ALIASES | PRECISION_FLAGS
