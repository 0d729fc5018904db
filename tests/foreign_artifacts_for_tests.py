"""Classifiers as other people have them on disk, by transformers, PEFT and torch: tiny, random.

A folder comes with the logits of plain transformers, one text at a time. Weights are made larger,
so that wrong answers differ visibly.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.models_for_tests import TEXTS as CORPUS
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

TEXTS = ["a good film", "ok", "NEWTOK is what they said", " ".join(CORPUS[:3] * 12), *CORPUS]
NAMES = {0: "bad", 1: "good", 2: "fine"}
LABELS: dict[str, Any] = {"id2label": NAMES, "label2id": {n: i for i, n in NAMES.items()}}
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                         "intermediate_size": 64}  # fmt: skip
GPT: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4}


class Made(NamedTuple):
    """A folder, and the right logits of `TEXTS` where there are any."""

    folder: Path
    logits: list[list[float]] | None


def _tokenizer(special: list[str], template: str, **named: Any) -> Any:
    """A byte-level tokenizer; `template` says where special tokens stand, with their segments."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if template:
        ids = [(name, tokenizer.token_to_id(name)) for name in special if name in template]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=ids
        )
    names = ["input_ids", "attention_mask"]
    if ":" in template:
        names.append("token_type_ids")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=names, **named
    )


def bert_like(cls_segment: int = 0, **named: Any) -> Any:
    """[CLS] text [SEP]."""
    return _tokenizer(
        ["[PAD]", "[CLS]", "[SEP]"], f"[CLS]:{cls_segment} $A:0 [SEP]:0",
        pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", **named,
    )  # fmt: skip


def roberta_like() -> Any:
    """<s> text </s>; pad is 1."""
    return _tokenizer(["<s>", "<pad>", "</s>"], "<s> $A </s>",
                      bos_token="<s>", pad_token="<pad>", eos_token="</s>")  # fmt: skip


def decoder_like(pad_token: str | None = "<pad>", template: str = "") -> Any:
    """No token in front; `pad_token` may be None."""
    named = {"pad_token": pad_token} if pad_token else {}
    return _tokenizer(["<s>", "</s>", "<pad>"], template, eos_token="</s>", **named)


def xlnet_like() -> Any:
    """text <sep> <cls>, <cls> in segment 2, padded on the left."""
    return _tokenizer(["<cls>", "<sep>", "<pad>"], "$A:0 <sep>:0 <cls>:2",
                      pad_token="<pad>", padding_side="left")  # fmt: skip


def classifier(config: Any) -> Any:
    """A random classifier whose logits differ from text to text."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return louder(transformers.AutoModelForSequenceClassification.from_config(config))


def louder(model: Any) -> Any:
    """Larger weights, and biases that are not 0."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4) if parameter.dim() > 1 else parameter.add_(0.01)
    return model.eval()


def alone(model: Any, tokenizer: Any, length: int = 512) -> list[list[float]]:
    """The logits of plain transformers, one text at a time."""
    rows = (tokenizer(text, return_tensors="pt", truncation=True, max_length=length)
            for text in TEXTS)  # fmt: skip
    with torch.no_grad():
        return [model.eval()(**row).logits[0].tolist() for row in rows]


def edit(path: Path, **changes: Any) -> None:
    """Other values in a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def plain(
    config_class: Any, tokenizer: Callable[[], Any], length: int = 512, **settings: Any
) -> Callable[[Path], Made]:
    """A model with its tokenizer, saved."""

    def make(folder: Path) -> Made:
        fast = tokenizer()
        model = classifier(config_class(**{"vocab_size": len(fast), **LABELS, **settings}))
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
        return Made(folder, alone(model, fast, length))

    return make


def changed(
    make: Callable[[Path], Made], change: Callable[[Path], None], is_right: bool = True
) -> Callable[[Path], Made]:
    """The same with something else on disk, which has the same answers, or none."""

    def make_changed(folder: Path) -> Made:
        made = make(folder)
        change(folder)
        return made if is_right else Made(folder, None)

    return make_changed


def adapter(
    base_class: Any = transformers.BertModel, added: Sequence[str] = (), rows: int = 0,
    has_config: bool = True, has_tokenizer: bool = True, lora: dict[str, Any] | None = None,
    **saving: Any,
) -> Callable[[Path], Made]:  # fmt: skip
    """A LoRA classifier, its trained part random, saved as PEFT's guide saves it."""

    def make(folder: Path) -> Made:
        tokenizer = bert_like()
        base = folder.with_name(f"{folder.name}-base")
        torch.manual_seed(0)
        config = transformers.BertConfig(vocab_size=len(tokenizer), pad_token_id=0, **SIZES)
        louder(base_class(config)).save_pretrained(base)
        tokenizer.save_pretrained(base)
        tokenizer.add_tokens([*added])
        model = transformers.AutoModelForSequenceClassification.from_pretrained(base, **LABELS)
        if added or rows:
            model.resize_token_embeddings(len(tokenizer) + rows, mean_resizing=False)
        options = {"task_type": "SEQ_CLS", "r": 4, "target_modules": ["query"], **(lora or {})}
        tuned = peft.get_peft_model(model, peft.LoraConfig(**options))
        tuned.peft_config["default"].base_model_name_or_path = str(base)
        with torch.no_grad():
            for parameter in tuned.parameters():
                if parameter.requires_grad:
                    parameter.copy_(torch.randn_like(parameter) * 0.3)
        tuned.save_pretrained(folder, **saving)
        if has_config:
            tuned.config.save_pretrained(folder)
        if has_tokenizer:
            tokenizer.save_pretrained(folder)
        return Made(folder, alone(tuned, tokenizer))

    return make


def adapter_on_4_bits(folder: Path) -> Made:
    """An adapter on a base that was saved in 4 bits, whose width bitsandbytes takes."""
    sizes = {**SIZES, "hidden_size": 64, "intermediate_size": 128}
    full, base = (folder.with_name(f"{folder.name}-{part}") for part in ("full", "base"))
    plain(transformers.BertConfig, bert_like, pad_token_id=0, **sizes)(full)
    how = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["classifier"],
    )  # fmt: skip
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    load(full, quantization_config=how, device_map="cpu").save_pretrained(base)
    tokenizer = bert_like()
    tokenizer.save_pretrained(base)
    options = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])
    tuned = peft.get_peft_model(load(base, device_map="cpu"), options)
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    tuned.save_pretrained(folder)
    tuned.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Made(folder, alone(tuned, tokenizer))


def with_tensor(name: str, shape: tuple[int, ...]) -> Callable[[Path], None]:
    """One tensor more in model.safetensors."""

    def change(folder: Path) -> None:
        state = {**load_file(folder / "model.safetensors"), name: torch.randn(shape)}
        save_file(state, folder / "model.safetensors", {"format": "pt"})

    return change


def in_config(**changes: Any) -> Callable[[Path], None]:
    """Other values in config.json."""
    return lambda folder: edit(folder / "config.json", **changes)


def in_tokenizer(**changes: Any) -> Callable[[Path], None]:
    """Other values in tokenizer_config.json."""
    return lambda folder: edit(folder / "tokenizer_config.json", **changes)


def in_adapter(**changes: Any) -> Callable[[Path], None]:
    """Other values in adapter_config.json."""
    return lambda folder: edit(folder / "adapter_config.json", **changes)
