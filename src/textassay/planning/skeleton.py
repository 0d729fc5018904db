"""The model of a job as its launcher trains it, with tensors that have shapes and no content."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.quantizers_utils import should_convert_module

from textassay.config.schema import Job, ModelSection
from textassay.data.labels import LabelMap
from textassay.data.prompt import Prompt
from textassay.errors import UsageError, first_line
from textassay.models import cpu
from textassay.models.classifier import (
    UNREADABLE,
    BuiltClassifier,
    beside_backbone,
    fresh_modules,
    input_settings,
    load_config,
    load_tokenizer,
    refuse_too_long,
    skeleton,
)
from textassay.models.heads import LABEL_SCORING
from textassay.models.inputs import bind_to_mask
from textassay.models.methods import attach
from textassay.models.packaged import packaged_folder
from textassay.models.pruning import PRUNED
from textassay.models.quantization import quantization_settings
from textassay.models.scoring import label_token_ids, tokens_behind
from textassay.models.source import (
    SETTINGS_KEY,
    checkpoint_shapes,
    config_folder,
)
from textassay.planning.kernels import FLASH, FourBit, MaskedDropout, flash_attention


def find_config(name: str, revision: str | None = None) -> Path:
    """The folder with the base's config.json; its weights need not be there.

    UsageError with what to do where it is in no directory, no package and not in the hub's cache.
    """
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    found = packaged_folder(name, revision)
    if found is None and not folder.is_dir():
        found = config_folder(name, revision)
    if found is None:
        raise UsageError(
            f"model.model_name_or_path: {name} has no config.json in a directory of this name or "
            "in the hub's cache, and a plan needs that file, though no weights; where there is a "
            f"network run `hf download {name} config.json`, or name a directory that holds it with "
            "--model_name_or_path."
        )
    return found


def tokenizer_in(folder: Path, max_length: int) -> Any | None:
    """The base's tokenizer; None where only its config is there."""
    try:
        return load_tokenizer(str(folder), max_length)
    except (UsageError, *UNREADABLE):
        return None


def build(job: Job, folder: Path, labels: LabelMap, tokenizer: Any | None) -> Any:
    """The classifier as the method tunes it, on `meta`; weights in 4 bits have their packed size.

    Raises UsageError where the job's own construction would.
    """
    section = job.model
    try:
        config = load_config(
            folder, num_labels=len(labels), id2label=dict(enumerate(labels.names)),
            label2id=labels.label2id, problem_type="single_label_classification",
        )  # fmt: skip
    except UNREADABLE as error:
        raise UsageError(f"{folder}/config.json: cannot be read ({first_line(error)}).") from None
    if config.pad_token_id is None:
        config.pad_token_id = 0 if tokenizer is None else tokenizer.pad_token_id
    own = getattr(config, SETTINGS_KEY, None) or {}
    kept = {PRUNED: own[PRUNED]} if PRUNED in own else {}
    setattr(config, SETTINGS_KEY, _settings(job, labels, tokenizer) | kept)
    model = skeleton(config)
    refuse_too_long(model, section.max_seq_length)
    bind_to_mask(model, tokenizer)
    fresh = fresh_modules(model, _shapes(folder, model, section.head), section.model_name_or_path)
    whole = job.method.settings().get("modules_to_save") or []
    packed = _to_pack(section, model, [*beside_backbone(model), *fresh, *whole])
    with torch.device("meta"):
        tuned = attach(BuiltClassifier(model, tokenizer, fresh), job.method, str(folder))
    for module in packed:
        _pack(module, section)
    return tuned


def _settings(job: Job, labels: LabelMap, tokenizer: Any | None) -> dict[str, Any]:
    prompt = Prompt.from_template(job.data.prompt, labels.names) if job.data.prompt else None
    if job.model.head != LABEL_SCORING:
        return input_settings(job.model, prompt)
    if prompt is None:
        raise UsageError("model.head: label_scoring needs data.prompt, whose end asks for it.")
    if tokenizer is None:  # as if each label were a token
        return input_settings(job.model, prompt, [[index] for index in range(len(labels))])
    tokens = label_token_ids(tokenizer, labels, prompt)
    return input_settings(job.model, prompt, tokens, tokens_behind(tokenizer))


def _shapes(folder: Path, model: Any, head: str) -> dict[str, tuple[int, ...]]:
    """{key: shape} of the weights that lie there; without any, all but the head's."""
    try:
        return checkpoint_shapes(folder)
    except UsageError:
        inside = f"{model.base_model_prefix}."
        return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()
                if head == LABEL_SCORING or key.startswith(inside)}  # fmt: skip


def _to_pack(section: ModelSection, model: Any, fresh: Sequence[str]) -> list[nn.Module]:
    """The layers that bitsandbytes quantises."""
    if not section.load_in_4bit:
        return []
    named = [name for name, _ in model.named_modules() if name.endswith(tuple(fresh))]
    skipped = quantization_settings(section, model, [*fresh, *named])["llm_int8_skip_modules"]
    return [module for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D)
            and should_convert_module(name, skipped)]  # fmt: skip


def _pack(module: Any, section: ModelSection) -> None:
    shape = tuple(module.weight.shape)
    if isinstance(module, Conv1D):
        module.in_features, module.out_features = shape
        shape = shape[::-1]
    module.__class__ = FourBit
    module.compute_dtype = getattr(torch, section.bnb_4bit_compute_dtype)
    # Half a byte a weight, and a scale for each block of 64: of a byte, or in fp32.
    scale = 1 if section.bnb_4bit_use_double_quant else 4
    size = shape[0] * shape[1] * (32 + scale) // 64
    packed = torch.empty(size, dtype=torch.uint8, device="meta")
    module.weight = nn.Parameter(packed, requires_grad=False)
    module.weight.quant_state = SimpleNamespace(shape=shape)


@contextmanager
def without_content(model: Any) -> Iterator[None]:
    """A block in which the tensors of a model from `meta` are fake ones on the CPU."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        yield


def prepare(model: Any, device: str, precision: str, checkpointing: bool) -> None:
    """Make of the model what the Trainer has on a device, in place.

    On a CPU it is what models/cpu.py makes of it. For a GPU, which need not be there, what keeps
    another amount there is replaced: fused attention keeps no scores (Dao et al. 2022,
    arXiv:2205.14135), dropout a byte for each element.
    """
    if checkpointing:
        _checkpoint(model)
    if device == "cpu":
        cpu.speed_up(model, precision)
    else:
        _as_on_a_gpu(model)


def _checkpoint(model: Any) -> None:
    """As the Trainer does; the older name is that of older versions of transformers."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)()


def _as_on_a_gpu(model: Any) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, name, MaskedDropout(child.p))
    if getattr(model, "_supports_sdpa", False) and getattr(
        model, "_supports_attention_backend", False
    ):
        AttentionInterface.register(FLASH, flash_attention)
        AttentionMaskInterface.register(FLASH, sdpa_mask)
        model.config._attn_implementation = FLASH
