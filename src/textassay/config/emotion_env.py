"""The `.env` file of the older emotion trainer, said in our settings.

It is read when it is passed with --env_file, and these names are read from nowhere else. That
trainer describes a DoRA and an rsLoRA part, each with rank, alpha, dropout and modules of its own.
A PEFT adapter has one dropout, one DoRA switch and one scaling rule, and ranks and alphas by
module; so each module gets those of the part that names it, and what is left over is said.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from textassay.config.dotenv import PREFIX

# What any program may call by these names: alone they do not make a file that trainer's.
COMMON = {
    "DATA_PATH": "data.path",
    "MODEL_NAME": "model.model_name_or_path",
    "MAX_LENGTH": "model.max_seq_length",
    "NUM_TRAIN_EPOCHS": "training.num_train_epochs",
    "LEARNING_RATE": "training.learning_rate",
    "PER_DEVICE_TRAIN_BATCH_SIZE": "training.per_device_train_batch_size",
    "PER_DEVICE_EVAL_BATCH_SIZE": "training.per_device_eval_batch_size",
    "DEVICE": "resources.device",
}
OWN = {
    "OUTPUT_DIR_BASE": "artifact.runs_dir",
    "FINAL_MODEL_DIR": "artifact.final_model_dir",
    "TARGET_EMOTIONS": "data.labels",
    "DORA_USE_MAGNITUDE": "method.use_dora",
    "USE_RSLORA": "method.use_rslora",
}
SWITCHED = {name: key for name, key in OWN.items() if key.startswith("method.")}
PART = ("R", "ALPHA", "DROPOUT", "TARGET_MODULES")
TUNING = {f"{part}_{name}" for part in ("DORA", "RSLORA") for name in PART}
# That trainer's documented values, for a file that leaves some out.
DEFAULTS = {
    "DORA_R": "8", "DORA_ALPHA": "16", "DORA_DROPOUT": "0.9", "DORA_USE_MAGNITUDE": "true",
    "DORA_TARGET_MODULES": "query,key,value,dense",
    "USE_RSLORA": "true", "RSLORA_R": "16", "RSLORA_ALPHA": "32", "RSLORA_DROPOUT": "0.1",
}  # fmt: skip
SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}
# A bare `dense` would catch BERT's pooler too, which is no part of the encoder.
DENSE = ["attention.output.dense", "intermediate.dense", "output.dense"]
SUSPICIOUS_DROPOUT = 0.5


@dataclass(frozen=True)
class Part:
    """One of the two groups of modules: rank, alpha, dropout, and what it names."""

    r: int
    alpha: int
    dropout: float
    modules: list[str]


def is_emotion_env(variables: Mapping[str, str]) -> bool:
    """Whether a file speaks that trainer's language."""
    given = _given(variables).keys()
    return bool(given & (OWN.keys() | TUNING)) or {"DATA_PATH", "MODEL_NAME"} <= given


def emotion_settings(
    variables: Mapping[str, str], beside_a_job: bool = False
) -> tuple[dict[str, object], list[str]]:
    """Our settings, and sentences on what the file says that an adapter cannot do.

    `beside_a_job`: a file that says nothing of the tuning leaves it to the job. ValueError where a
    rank, an alpha or a dropout is no number.
    """
    given = _given(variables)
    said = DEFAULTS | given
    for name in ("DORA_USE_MAGNITUDE", "USE_RSLORA"):
        said[name] = SWITCHES.get(said[name].lower(), said[name])
    settings: dict[str, object] = {
        key: said[name] for name, key in (COMMON | OWN).items()
        if name in said and name not in SWITCHED
    }  # fmt: skip
    if "DEVICE" in said:
        device = said["DEVICE"].lower()
        settings["resources.device"] = "cuda" if device.startswith(("cuda", "gpu")) else device
    if "TARGET_EMOTIONS" in said:
        settings["data.labels"] = _listed(said["TARGET_EMOTIONS"])
    notes: list[str] = []
    if not beside_a_job or given.keys() & (TUNING | SWITCHED.keys()):
        tuning, notes = _tuning(said)
        settings |= tuning
    ignored = sorted(name for name in given.keys() - COMMON.keys() - OWN.keys() - TUNING
                     if not name.startswith(PREFIX))  # fmt: skip
    if ignored:
        notes.append(f"not read: {', '.join(ignored)}")
    return settings, notes


def _given(variables: Mapping[str, str]) -> dict[str, str]:
    """What the file sets."""
    return {name: value.strip() for name, value in variables.items() if value.strip()}


def _tuning(said: Mapping[str, str]) -> tuple[dict[str, object], list[str]]:
    """The method's settings out of the two parts, and what they cannot say."""
    dora, rslora = _part("DORA", said), None
    if _is_on(said["USE_RSLORA"]):
        rslora = _part("RSLORA", {"RSLORA_TARGET_MODULES": said["DORA_TARGET_MODULES"], **said})
    ruling = rslora or dora
    alone = [name for name in dora.modules if not _is_among(name, ruling.modules)]
    # PEFT reads these as patterns for the end of a module's name. Empty ones replace a job's.
    patterns = [_pattern(name, ruling.modules) for name in alone]
    tuning: dict[str, object] = {
        "method.name": "lora",
        **{key: said[name] for name, key in SWITCHED.items()},
        "method.r": ruling.r,
        "method.lora_alpha": ruling.alpha,
        "method.lora_dropout": ruling.dropout,
        "method.target_modules": [*ruling.modules, *alone],
        "method.rank_pattern": dict.fromkeys(patterns, dora.r),
        "method.alpha_pattern": dict.fromkeys(patterns, dora.alpha),
    }
    return tuning, _notes(said, dora, rslora)


def _notes(said: Mapping[str, str], dora: Part, rslora: Part | None) -> list[str]:
    """What one adapter cannot do as the two parts say it."""
    notes = []
    if rslora is None:
        if dora.dropout > SUSPICIOUS_DROPOUT:
            notes.append(f"DORA_DROPOUT is {dora.dropout}{_suspicious(dora.dropout)}")
    else:
        if dora.dropout != rslora.dropout:
            notes.append(
                f"an adapter has one dropout: RSLORA_DROPOUT {rslora.dropout} applies everywhere, "
                f"DORA_DROPOUT {dora.dropout} nowhere{_suspicious(dora.dropout)}"
            )
        if "RSLORA_TARGET_MODULES" not in said:
            notes.append("RSLORA_TARGET_MODULES is not set, so the rsLoRA part has DoRA's modules")
        both = [name for name in dora.modules if _is_among(name, rslora.modules)]
        if both and (dora.r, dora.alpha) != (rslora.r, rslora.alpha):
            notes.append(
                f"named in both parts, so of rank {rslora.r} and alpha {rslora.alpha} (rsLoRA's): "
                f"{', '.join(both)}"
            )
        magnitudes = "DoRA's magnitudes and " if _is_on(said["DORA_USE_MAGNITUDE"]) else ""
        notes.append(f"{magnitudes}rsLoRA's scaling apply to every module of the adapter")
    if "dense" in [*_listed(said["DORA_TARGET_MODULES"]),
                   *_listed(said.get("RSLORA_TARGET_MODULES", ""))]:  # fmt: skip
        notes.append(f"dense stands for {', '.join(DENSE)}; the pooler is left as it is")
    return notes


def _is_on(switch: str) -> bool:
    """Whether a switch is on; what is no switch at all is refused by the schema."""
    return switch.lower() in ("true", "1")


def _is_among(name: str, modules: list[str]) -> bool:
    """Whether one of the modules names this one too, by its end, as PEFT reads them."""
    return any(name == other or name.endswith(f".{other}") for other in modules)


def _pattern(name: str, others: list[str]) -> str:
    """`name` ends a module's name, but not the end of a longer one that the other part names."""
    longer = [other.removesuffix(name) for other in others if other.endswith(f".{name}")]
    return "".join(f"(?<!{re.escape(prefix)})" for prefix in longer) + re.escape(name)


def _suspicious(dropout: float) -> str:
    if dropout <= SUSPICIOUS_DROPOUT:
        return ""
    return f" ({dropout:.0%} of the inputs dropped: suspicious)"


def _part(name: str, said: Mapping[str, str]) -> Part:
    modules: list[str] = []
    for module in _listed(said[f"{name}_TARGET_MODULES"]):
        modules += DENSE if module == "dense" else [module]
    return Part(
        int(_number(f"{name}_R", said, int)),
        int(_number(f"{name}_ALPHA", said, int)),
        _number(f"{name}_DROPOUT", said, float),
        modules,
    )


def _number(name: str, said: Mapping[str, str], kind: type[int] | type[float]) -> float:
    try:
        return kind(said[name])
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} is {said[name]!r}, and takes {wanted}") from None


def _listed(value: str) -> list[str]:
    """`a,b`, with brackets and quotes if somebody wrote JSON, and Chinese commas."""
    return [part.strip(" []\"'") for part in re.split("[,，、]", value) if part.strip(" []\"'")]
