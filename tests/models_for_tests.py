"""Tiny random models with tokenizers trained on the spot: a base model in a second, offline."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = (
    "a good film, warm and funny from start to end",
    "a bad film, dull and far too long",
    "the food was fine, the service was not",
    "这部电影很好看，我很喜欢",
    "房间太小了，服务也不好",
)
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def tiny_bert(
    folder: Path, texts: Iterable[str] = TEXTS, positions: int = 64, width: int = 32
) -> Path:
    """A BERT of two layers and `width` dimensions, saved to `folder` as a hub would hand it out.

    It is the masked-language model: its pooler and head are missing, as in most base models.
    """
    tokenizer = _wordpiece(texts, positions)
    config = transformers.BertConfig(
        **_sizes(tokenizer, positions, width),
        intermediate_size=2 * width,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _save(folder, transformers.BertForMaskedLM, config, tokenizer)


def tiny_roberta(
    folder: Path, texts: Iterable[str] = TEXTS, positions: int = 64, width: int = 32
) -> Path:
    """A RoBERTa: two of its `positions` + 2 position embeddings never stand for a token."""
    tokenizer = _wordpiece(texts, positions)
    sizes = {**_sizes(tokenizer, positions, width), "max_position_embeddings": positions + 2}
    config = transformers.RobertaConfig(**sizes, intermediate_size=2 * width, pad_token_id=1)
    return _save(folder, transformers.RobertaForMaskedLM, config, tokenizer)


def tiny_llama(
    folder: Path, texts: Iterable[str] = TEXTS, positions: int = 64, width: int = 32
) -> Path:
    """A decoder without a pad token, as Llama is: neither its tokenizer nor its config has one."""
    fast = _byte_level(texts, positions)
    config = transformers.LlamaConfig(
        **_sizes(fast, positions, width),
        intermediate_size=2 * width,
        bos_token_id=0,
        eos_token_id=1,
    )
    return _save(folder, transformers.LlamaForCausalLM, config, fast)


def tiny_gpt2(
    folder: Path, texts: Iterable[str] = TEXTS, positions: int = 64, width: int = 32
) -> Path:
    """A decoder with absolute positions and BERT's tokenizer, as the Chinese GPT-2 has it."""
    tokenizer = _wordpiece(texts, positions)
    tokenizer.padding_side = "left"  # somebody else's choice, which must not matter
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=width, n_layer=2, n_head=2, n_positions=positions,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return _save(folder, transformers.GPT2LMHeadModel, config, tokenizer)


def tiny_qwen2(
    folder: Path, texts: Iterable[str] = TEXTS, positions: int = 64, width: int = 32
) -> Path:
    """A Qwen2: grouped queries, biases in the attention, its pad token is its end token."""
    fast = _byte_level(texts, positions)
    fast.pad_token = fast.eos_token
    config = transformers.Qwen2Config(
        **_sizes(fast, positions, width), intermediate_size=2 * width, num_key_value_heads=1,
        bos_token_id=0, eos_token_id=1, tie_word_embeddings=True,
    )  # fmt: skip
    return _save(folder, transformers.Qwen2ForCausalLM, config, fast)


def tiny_distilbert(
    folder: Path, texts: Iterable[str] = TEXTS, positions: int = 64, width: int = 32
) -> Path:
    """A DistilBERT: two layers of its head are missing from a base model."""
    tokenizer = _wordpiece(texts, positions)
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer), dim=width, n_layers=2, n_heads=2, hidden_dim=2 * width,
        max_position_embeddings=positions, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return _save(folder, transformers.DistilBertForMaskedLM, config, tokenizer)


def _sizes(tokenizer: Any, positions: int, width: int) -> dict[str, int]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": positions,
    }


def _byte_level(texts: Iterable[str], positions: int) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=positions
    )


def _wordpiece(texts: Iterable[str], positions: int) -> Any:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = list(SPECIAL.values())
    trainer = trainers.WordPieceTrainer(
        vocab_size=1000, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", special.index("[SEP]")), ("[CLS]", special.index("[CLS]"))
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=positions, **SPECIAL
    )


def _save(folder: Path, model_class: Any, config: Any, tokenizer: Any) -> Path:
    """The same weights at every call, and the caller's random state untouched."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
