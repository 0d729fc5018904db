"""The one schema of a job. Defaults and their reasons stand here and nowhere else.

`training` also takes every field of transformers' TrainingArguments, and `method` every field of
the PEFT config that it names, each by the library's own name (see `library_fields.py`).
"""

import codecs
import re
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from textassay.config.library_fields import PEFT_FIELDS, TRAINING_ARGUMENTS
from textassay.config.method_fields import refuse_method_fields
from textassay.config.names import as_kind, nearest, typed_fields
from textassay.config.rates import LORA_RATE
from textassay.config.trainer_fields import trainer_fields
from textassay.files import from_home

# The method that models/bottleneck.py adds to PEFT.
METHODS = {
    **PEFT_FIELDS,
    "bottleneck": {
        "target_modules": "list|str",
        "bottleneck_size": "int",
        "modules_to_save": "list",
    },
}
# minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes[:seconds]
SLURM_TIME = re.compile(r"^(\d+(:\d{2}){0,2}|\d+-\d{1,2}(:\d{2}){0,2})$")


def _precision(given: dict[str, Any]) -> dict[str, str]:
    """`bf16` and `fp16`, as everybody writes them, said as one `precision`."""
    wanted = {name for name in ("bf16", "fp16") if as_kind("bool", given.get(name), name)}
    named = given.get("precision")
    if len(wanted) == 2 or (wanted and named not in (None, "auto", *wanted)):
        raise ValueError("bf16, fp16 and precision contradict each other; set one of them")
    if wanted:
        return {"precision": wanted.pop()}
    if named is not None:
        return {"precision": named}
    if given.get("bf16") is not None or given.get("fp16") is not None:
        return {"precision": "fp32"}
    return {}


# What learns on a few hundred rows as on many (docs/results.md).
FEWEST_STEPS = 200


# What stands for a quote or escape character that a file does not have.
NO_CHARACTER = "none"
SPELT_OUT = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "bar": "|", "space": " "}


def text_encoding(name: str) -> str:
    """Return Python's name of a text encoding. Raises ValueError for what is none."""
    try:
        codec = codecs.lookup(name.strip())
        "".encode(codec.name)  # LookupError for codecs such as base64, which hold no text
    except LookupError:
        raise ValueError(
            f"{name!r} is no encoding that Python reads; utf-8, cp1252, latin-1, gb18030 are"
        ) from None
    return codec.name


def _expanded(path: str | None) -> str | None:
    """A path in which `~` is the user's home; transformers, told the same one, would say so too."""
    return from_home(path) if path else path


def _all_expanded(paths: list[str]) -> list[str]:
    return [from_home(path) for path in paths]


class Section(BaseModel):
    """A part of a job: it refuses unknown keys and never changes once it is made."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic would take true for 1. Nothing that is counted has more than 64 bits."""
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("is too large a number")
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("must not be true or false")
        return value


class DataSection(Section):
    """Which rows, and how they are read and split."""

    name: str | None = Field(None, description="a data set of data/catalog, by its name")
    path: str | None = Field(None, description="a file, a directory with splits, or a hub name")
    train_file: str | None = Field(None, description="the training rows, where splits are files")
    validation_file: str | None = Field(None, description="the validation rows")
    test_file: str | None = Field(None, description="the test rows")
    text_column: str | None = Field(
        None, description="the column that holds the text; several, by commas, are joined"
    )
    label_column: str | None = Field(None, description="the column that holds the label")
    column_names: list[str] | None = Field(
        None, description="names for the columns of files that have no header line"
    )
    encoding: str | None = Field(
        None, description="the encoding of text files, such as cp1252 (default: found out)"
    )
    delimiter: str | None = Field(
        None, description="CSV, TSV: what separates columns, such as ; or tab (default: found out)"
    )
    quotechar: str | None = Field(
        None, description="CSV, TSV: what encloses fields, or none (default: found out)"
    )
    escapechar: str | None = Field(
        None, description="CSV, TSV: what goes before a quote inside a field, or none"
    )
    skip_rows: int = Field(0, ge=0, description="CSV, TSV: lines above the header that are no rows")
    labels: list[str] | None = Field(
        None, description="the labels that may occur, in this order; any other is an error"
    )
    label_type: Literal["auto", "category", "number"] = Field(
        "auto",
        description="category: labels are names as they are written, also 250.0 and 1.5; "
        "number: 1 and 1.0 are one class; auto: one class, unless a file writes one number in "
        "several ways",
    )
    normalize_labels: bool = Field(
        False, description="labels that differ by case, spaces or invisible characters are one"
    )
    prompt: str | None = Field(
        None, description="a template with {text} and, if wanted, {class_labels}"
    )
    on_bad_rows: Literal["error", "skip"] = Field(
        "error", description="stop at rows that cannot be used, or leave them out and say so"
    )
    max_samples: int | None = Field(
        None, ge=1, description="at most this many rows of each split (stratified, fixed)"
    )
    test_size: float = Field(
        0.1, gt=0, lt=1, description="share cut off for test where the set has none"
    )
    validation_size: float = Field(
        0.15, gt=0, lt=1, description="share of the rest cut off for validation where there is none"
    )
    split_seed: int | None = Field(
        None, description="the seed of the cut (default: the data set's own); never the run's seed"
    )

    _home = field_validator("path", "train_file", "validation_file", "test_file")(_expanded)

    @field_validator("encoding")
    @classmethod
    def _is_text_encoding(cls, name: str | None) -> str | None:
        return None if name is None else text_encoding(name)

    @field_validator("delimiter", "quotechar", "escapechar")
    @classmethod
    def _is_one_character(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if value.lower() == NO_CHARACTER and info.field_name != "delimiter":
            return NO_CHARACTER
        character = SPELT_OUT.get(value.lower(), value)
        if len(character) != 1 or character in "\r\n\0":
            alternatives = "a word such as tab" if info.field_name == "delimiter" else NO_CHARACTER
            raise ValueError(f"{value!r} is neither one character nor {alternatives}")
        return character

    @field_validator("text_column", mode="before")
    @classmethod
    def _listed_by_commas(cls, value: Any) -> Any:
        is_list = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return ",".join(value) if is_list else value

    @field_validator("labels")
    @classmethod
    def _each_once(cls, labels: list[str] | None) -> list[str] | None:
        for index, label in enumerate(labels or []):
            if label in (labels or [])[:index]:
                raise ValueError(f"the label {label!r} is named twice")
        return labels

    @field_validator("prompt")
    @classmethod
    def _has_a_place_for_the_text(cls, template: str | None) -> str | None:
        if template is not None and template.count("{text}") != 1:
            raise ValueError("the template needs {text} exactly once")
        return template


class ModelSection(Section):
    """Which base model, and how much text it sees."""

    model_name_or_path: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2", description="a local directory or a hub name"
    )
    revision: str | None = Field(None, description="a hub revision: branch, tag or commit")
    max_seq_length: int = Field(128, ge=4, description="tokens a text is cut to, prompt included")
    head: Literal["linear", "mlp", "label_scoring"] = Field(
        "linear",
        description="linear; mlp: 512, 256, labels; label_scoring: no head, a decoder scores each "
        "label's tokens after the prompt",
    )
    load_in_4bit: bool = Field(False, description="QLoRA: a frozen base in 4 bits (bitsandbytes)")
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = Field("nf4", description="QLoRA's data type")
    bnb_4bit_use_double_quant: bool = Field(True, description="quantise the constants too")
    bnb_4bit_compute_dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="what QLoRA multiplies in"
    )

    _home = field_validator("model_name_or_path")(_expanded)


class MethodSection(Section):
    """How weights are tuned: `full`, or a PEFT method by PEFT's name with PEFT's fields."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(
        "lora", description="full, bottleneck, or a PEFT method: lora, ia3, vera, oft …"
    )

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, given: dict[str, Any]) -> dict[str, Any]:
        name = str(given.get("name", "lora")).lower()
        if name != "full" and name not in METHODS:
            raise ValueError(f"{name!r} is not a method; {nearest(name, ['full', *METHODS])}")
        fields = METHODS.get(name, {})
        extras = {key: value for key, value in given.items() if key != "name"}
        typed = typed_fields(extras, fields, f"method {name}")
        refuse_method_fields(name, typed)
        return {"name": name, **typed}

    def settings(self) -> dict[str, Any]:
        """The fields that were set for the PEFT config."""
        return dict(self.model_extra or {})


class TrainingSection(Section):
    """How weights are moved. Fields not named here are TrainingArguments' own."""

    model_config = ConfigDict(extra="allow")

    learning_rate: float = Field(
        LORA_RATE,
        gt=0,
        description="peak learning rate of AdamW; the default is the method's, this one lora's",
    )
    num_train_epochs: float = Field(
        3.0, ge=0, description="passes over the training rows; 0: zero-shot, with label_scoring"
    )
    max_steps: int = Field(-1, ge=-1, description="optimizer steps instead of epochs; -1: epochs")
    fewest_steps: int = Field(
        FEWEST_STEPS,
        ge=0,
        description="more epochs, until so many optimizer steps are taken; 0 where epochs or steps "
        "are given",
    )
    per_device_train_batch_size: int = Field(32, ge=1, description="rows a device and step")
    per_device_eval_batch_size: int = Field(64, ge=1, description="rows a device in evaluation")
    gradient_accumulation_steps: int = Field(1, ge=1, description="batches an optimizer step")
    lr_scheduler_type: str = Field("linear", description="linear, cosine, constant …")
    warmup_steps: float = Field(
        0.1, ge=0, description="steps of warm-up; below 1 a share of all steps"
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay")
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping; 0 switches it off")
    gradient_checkpointing: bool = Field(False, description="less memory for more time")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="auto: bf16 where the device has it, fp16 on older GPUs, else fp32"
    )
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] = Field(
        "group_by_length", description="how rows become batches"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: rows of a class weigh n / (classes * rows of the class)"
    )
    eval_strategy: Literal["steps", "epoch"] = Field("epoch", description="when to evaluate")
    save_strategy: Literal["steps", "epoch"] = Field("epoch", description="when to save")
    eval_steps: float | None = Field(None, gt=0, description="with eval_strategy steps")
    save_steps: float = Field(500, gt=0, description="with save_strategy steps")
    save_total_limit: int = Field(2, ge=1, description="checkpoints kept, the best among them")
    metric_for_best_model: str = Field("macro_f1", description="picks the best checkpoint")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="stop after this many evaluations without a better one"
    )
    early_stopping_threshold: float = Field(0.0, ge=0, description="what counts as better")
    logging_steps: float = Field(10, gt=0, description="steps between two points of the curve")
    report_to: str | list[str] = Field(
        "none", description="experiment trackers, only when asked for"
    )

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, given: dict[str, Any]) -> dict[str, Any]:
        precision = _precision(given)
        if given.get("num_train_epochs") is not None or given.get("max_steps") is not None:
            given = {"fewest_steps": 0, **given}
        rest = {k: v for k, v in given.items() if k not in ("bf16", "fp16", "precision")}
        extras = {key: value for key, value in rest.items() if key not in cls.model_fields}
        typed = trainer_fields(extras, TRAINING_ARGUMENTS, list(cls.model_fields))
        return {k: v for k, v in rest.items() if k not in extras} | typed | precision

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, value: int) -> int:
        if value == 0:
            raise ValueError("no step would be taken; say -1 to count in epochs")
        return value

    def is_zero_shot(self) -> bool:
        """Whether nothing is to be trained."""
        return self.num_train_epochs == 0 and self.max_steps == -1

    def library_settings(self) -> dict[str, Any]:
        """Every setting that TrainingArguments knows by the same name."""
        own = {"precision", "class_weights", "early_stopping_patience", "early_stopping_threshold",
               "fewest_steps"}  # fmt: skip
        return self.model_dump(exclude=own)


class EvaluationSection(Section):
    """How results are measured and reported."""

    confidence: float = Field(0.95, gt=0, lt=1, description="level of every interval")
    bootstrap_samples: int = Field(2000, ge=100, description="resamples behind every interval")
    baselines: bool = Field(True, description="majority and TF-IDF on the same rows")
    probe_rows: int = Field(
        16, ge=0, description="validation rows kept in the hallmark; 0 where texts must not travel"
    )
    calibrate: bool = Field(
        True, description="fit a temperature for the probabilities on the validation rows"
    )
    allow_unlearned: bool = Field(
        False, description="exit code 0 where the model did not learn; the report says it anyway"
    )


class DistillationSection(Section):
    """A teacher, whose answers the model learns beside the labels (knowledge distillation)."""

    teacher: str | None = Field(
        None, description="a run, an artifact or a classifier's hub name, whose answers are learned"
    )
    temperature: float = Field(
        2.0, gt=0, description="divides both models' logits in the comparison"
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="weight of the teacher's answers; the labels weigh 1 - alpha"
    )
    unlabelled_files: list[str] = Field(
        [], description="more texts to learn the teacher's answers on; no labels are needed"
    )
    student_layers: int | None = Field(
        None, ge=1, description="the base is so many of the teacher's layers, instead of a model"
    )

    _home = field_validator("teacher")(_expanded)
    _homes = field_validator("unlabelled_files")(_all_expanded)

    @model_validator(mode="after")
    def _goes_with_a_teacher(self) -> Self:
        for name in ("unlabelled_files", "student_layers"):
            if getattr(self, name) and self.teacher is None:
                raise ValueError(f"{name} goes with a teacher; name one with --teacher")
        return self


class DeepspeedSection(Section):
    """How the deepspeed launcher cuts the model over its processes."""

    zero_stage: int = Field(
        3,
        ge=1,
        le=3,
        description="1 cuts the optimizer's states, 2 also gradients, 3 also parameters",
    )
    offload_optimizer: bool = Field(False, description="keep the optimizer in the CPU's memory")
    offload_param: bool = Field(False, description="stage 3: keep parameters there too")
    config_file: str | None = Field(
        None,
        description="a DeepSpeed configuration in JSON that replaces the one made from the job",
    )

    _home = field_validator("config_file")(_expanded)

    @model_validator(mode="after")
    def _offload_fits_stage(self) -> Self:
        if self.offload_param and self.zero_stage != 3:
            raise ValueError("offload_param goes with zero_stage 3, which alone cuts parameters")
        return self


class ResourcesSection(Section):
    """What the run may use."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes a GPU where there is one, and fails where one is broken"
    )
    nproc_per_node: int | None = Field(
        None,
        ge=1,
        description="processes that train.sh starts for the deepspeed launcher "
        "(default: one a GPU; two without any)",
    )
    nodes: int = Field(1, ge=1, description="Slurm: nodes; more than one are for deepspeed")
    gpus_per_node: int | None = Field(
        None, ge=0, description="Slurm: GPUs on each node (default: what the sbatch file says)"
    )
    cpus_per_task: int | None = Field(None, ge=1, description="Slurm: CPUs on each node")
    mem: str | None = Field(
        None, pattern=r"^\d+[KMGT]$", description="Slurm: memory on each node, such as 64G"
    )
    time: str | None = Field(None, description="Slurm: the time limit, such as 4:00:00 or 1-12")

    @field_validator("time", mode="before")
    @classmethod
    def _is_a_time(cls, value: Any) -> Any:
        if value is None or (isinstance(value, str) and SLURM_TIME.match(value)):
            return value
        # YAML takes 4:00:00 for the number 14400, which Slurm would take for minutes.
        raise ValueError(
            'must be text in Slurm\'s form, in quotes in a job file, such as "4:00:00"'
        )


class ArtifactSection(Section):
    """Where a run goes, and what is saved beside its artifact."""

    runs_dir: str = Field("runs", description="the directory above <job>/seed-<k>")
    save_merged: bool = Field(
        False, description="also merged/: adapter and base as one plain transformers model"
    )
    final_model_dir: str | None = Field(
        None, description="another directory that gets merged model, labels, and the adapter"
    )
    _home = field_validator("runs_dir", "final_model_dir")(_expanded)

    save_bin: bool = Field(
        False, description="there also adapter_model.bin and pytorch_model.bin, the old names"
    )

    def wants_merged(self) -> bool:
        """Whether the method has to be one that can be merged."""
        return self.save_merged or self.final_model_dir is not None


class Job(Section):
    """One story: data, model, method, and how often it is told."""

    name: str = Field("adhoc", pattern=r"^\.*[\w\-][\w.\-]*$", description="the folder under runs/")
    launcher: Literal["full", "lora", "deepspeed"] = Field(
        "lora", description="the script that carries it out"
    )
    seeds: list[int] = Field([0], min_length=1, description="one run each")
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    method: MethodSection = MethodSection()
    training: TrainingSection = TrainingSection()
    distillation: DistillationSection = DistillationSection()
    deepspeed: DeepspeedSection = DeepspeedSection()
    evaluation: EvaluationSection = EvaluationSection()
    artifact: ArtifactSection = ArtifactSection()
    resources: ResourcesSection = ResourcesSection()

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is named twice")
        if any(not 0 <= seed < 2**32 for seed in seeds):
            raise ValueError("a seed lies between 0 and 4294967295")
        return seeds

    @model_validator(mode="after")
    def _launcher_fits_method(self) -> Self:
        if self.launcher == "deepspeed":  # it tunes either way
            return self
        if (self.launcher == "full") != (self.method.name == "full"):
            wanted = "full" if self.launcher == "full" else "a PEFT method such as lora"
            raise ValueError(
                f"method.name is {self.method.name}, and the launcher {self.launcher} goes with "
                f"{wanted}"
            )
        return self

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> Self:
        if self.training.is_zero_shot() and self.model.head != "label_scoring":
            raise ValueError(
                "training.num_train_epochs is 0, which leaves a random head; zero-shot needs "
                "model.head label_scoring"
            )
        if self.artifact.final_model_dir and len(self.seeds) > 1:
            raise ValueError(
                f"artifact.final_model_dir holds one model, and the job has {len(self.seeds)} "
                "seeds; name one seed"
            )
        if self.artifact.save_bin and not self.artifact.final_model_dir:
            raise ValueError("artifact.save_bin goes with artifact.final_model_dir")
        return self

    @model_validator(mode="after")
    def _four_bits_are_frozen(self) -> Self:
        if self.model.load_in_4bit and self.method.name == "full":
            raise ValueError(
                "model.load_in_4bit freezes the base, so it goes with a PEFT method such as lora, "
                "not with full"
            )
        return self

    @model_validator(mode="after")
    def _settings_fit_deepspeed(self) -> Self:
        if self.launcher != "deepspeed":
            return self
        if self.model.load_in_4bit:
            raise ValueError("model.load_in_4bit does not go with the deepspeed launcher; use lora")
        if self.training.is_zero_shot():
            raise ValueError("the deepspeed launcher trains, and training.num_train_epochs is 0")
        return self

    @model_validator(mode="after")
    def _settings_fit_a_teacher(self) -> Self:
        if self.distillation.teacher is None:
            return self
        if self.launcher == "deepspeed":
            raise ValueError(
                "distillation.teacher does not go with the deepspeed launcher; use full or lora"
            )
        if self.training.is_zero_shot():
            raise ValueError(
                "distillation.teacher is to be learned from, and training.num_train_epochs is 0"
            )
        if self.distillation.student_layers and self.method.name != "full":
            raise ValueError(
                "distillation.student_layers makes a base that is nowhere else, so an adapter on "
                "it could not be loaded; use the full launcher"
            )
        return self


SECTIONS: dict[str, type[Section]] = {
    "data": DataSection,
    "model": ModelSection,
    "method": MethodSection,
    "training": TrainingSection,
    "distillation": DistillationSection,
    "deepspeed": DeepspeedSection,
    "evaluation": EvaluationSection,
    "artifact": ArtifactSection,
    "resources": ResourcesSection,
}
