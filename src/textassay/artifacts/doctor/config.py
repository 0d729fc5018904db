"""What stands beside the weights: config.json, labels, tokenizer, pad token."""

import re
from pathlib import Path
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
)

from textassay.artifacts.adapters import read_config
from textassay.artifacts.doctor.findings import Diagnosis, read_object
from textassay.artifacts.label_config import label_names, unsupported_problem
from textassay.data.labels import LabelMap
from textassay.errors import GateError, UsageError, first_line
from textassay.models.classifier import has_vocabulary, load_tokenizer

CONFIG = "config.json"
MAPPING = "label_mapping.json"
TRAINER_STATE = "trainer_state.json"
PLACEHOLDER = re.compile(r"LABEL_\d+")
# Names that were lost cannot be found again from the weights.
NAME_THEM = "Write the names into id2label and label2id, in the order of the training."
ONE_ORDER = "Find out which order the model was trained with, and write that into both."


def open_config(folder: Path, diagnosis: Diagnosis) -> Any:
    """The transformers config of a folder; None, with a finding, where it is none."""
    if read_object(folder / CONFIG, diagnosis) is None:
        return None
    try:
        return read_config(folder)
    except GateError as error:
        diagnosis.wrong(
            str(error).removeprefix(f"{folder}: "),
            "Copy it again from where the directory was made, or use the version that wrote it.",
        )
    return None


def examine_labels(
    folder: Path, config: Any, hallmark: dict[str, Any] | None, diagnosis: Diagnosis
) -> None:
    """The label names of config, mapping and hallmark must be the same, and be names."""
    content = config.to_dict()
    try:
        names = list(label_names(content))
    except ValueError as error:
        diagnosis.wrong(f"{CONFIG}: {error}.", NAME_THEM)
        return
    diagnosis.facts["labels"] = names
    problem = unsupported_problem(content)
    if problem:
        diagnosis.wrong(f"{CONFIG}: {problem}.", "Use a model that chooses one of several labels.")
    if not _is_inverse(config.label2id, names):
        diagnosis.note(
            f"{CONFIG}: label2id is {config.label2id} where id2label is {config.id2label}.",
            "Here id2label counts; for other programs write the same names into both.",
        )
    _compare_mapping(folder / MAPPING, names, diagnosis)
    if hallmark is not None and hallmark["labels"] != names:
        diagnosis.wrong(
            f"{CONFIG}: the labels are {names}, but it was stamped with {hallmark['labels']}.",
            "Restore the config that was stamped.",
        )
    if (folder / CONFIG).is_file() and all(map(PLACEHOLDER.fullmatch, names)):
        diagnosis.note(f"{CONFIG}: the label names are lost, id2label says {names}.", NAME_THEM)


def _is_inverse(label2id: dict[str, Any] | None, names: list[str]) -> bool:
    """Whether `label2id`, where there is one, says the same; some write its numbers as text."""
    ids = {str(name): str(index) for name, index in (label2id or {}).items()}
    return not ids or ids == {name: str(index) for index, name in enumerate(names)}


def _compare_mapping(mapping: Path, names: list[str], diagnosis: Diagnosis) -> None:
    if not mapping.is_file():
        return
    content = read_object(mapping, diagnosis)
    if content is None:
        return
    try:
        stored = list(LabelMap.from_json(content).names)
    except (KeyError, ValueError, TypeError, AttributeError):
        diagnosis.wrong(f"{MAPPING}: is not a label mapping (id2label).", "Write it anew.")
        return
    if stored != names:
        diagnosis.wrong(f"{MAPPING}: says {stored} where {CONFIG} says {names}.", ONE_ORDER)


def open_tokenizer(folder: Path, diagnosis: Diagnosis) -> Any:
    """The tokenizer of a folder; None, with a finding, where there is none."""
    advice = "Copy the tokenizer of the model that it was trained from."
    if not has_vocabulary(folder):
        # What a training goes on from needs none.
        add = diagnosis.note if (folder / TRAINER_STATE).is_file() else diagnosis.wrong
        add("tokenizer.json: is missing, and any other vocabulary; no text can be read.", advice)
        return None
    try:
        return load_tokenizer(str(folder))
    except UsageError as error:
        diagnosis.wrong(str(error).removeprefix(f"{folder}: "), advice)
    # The tokenizers library raises Exception itself.
    except Exception as error:
        diagnosis.wrong(
            f"tokenizer.json: the tokenizer cannot be read ({first_line(error)[:200]}).", advice
        )
    return None


def is_decoder(config: Any) -> bool:
    """Whether transformers finds a text's last token by the pad token of a model like this."""
    # transformers lets BERT and its kin pass for language models.
    return (
        type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    )


def examine_pad_token(config: Any, tokenizer: Any, diagnosis: Diagnosis) -> None:
    """Other programs find a decoder's last token by it, so both should mean the same by it."""
    text = config.get_text_config()
    own, theirs = getattr(text, "pad_token_id", None), tokenizer.pad_token_id
    advice = (
        "Here the attention mask says what is padding, and nothing depends on it; for other "
        f"programs write {theirs} as pad_token_id into {CONFIG}."
    )
    if is_decoder(config) and own is None:
        diagnosis.note(
            f"{CONFIG}: pad_token_id is missing, by which transformers finds the last token of a "
            "text.",
            advice,
        )
        return
    vocabulary = getattr(text, "vocab_size", None)
    if vocabulary is not None and theirs is not None and theirs >= vocabulary:
        diagnosis.note(
            f"tokenizer_config.json: the pad token has the id {theirs}, and {CONFIG} has a "
            f"vocab_size of {vocabulary}.",
            "Here another stands for it; for other programs name a pad token that the model has.",
        )
    elif own is not None and theirs is not None and own != theirs:
        diagnosis.note(
            f"{CONFIG}: pad_token_id is {own}, where the tokenizer pads with {theirs} "
            f"({tokenizer.convert_ids_to_tokens(theirs)}).",
            advice,
        )
