"""Two small tokenizers of the two kinds that models have, trained on the spot."""

from typing import Any

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

CORPUS = [
    "the film was good and the book was not", "is this text good or bad? answer:",
    "an unbelievably long walk through the quiet town", "classify the text: one of the labels",
    "这部电影很好看", "房间很干净，服务也不错。", "判断情感：正面还是负面？",
] * 3  # fmt: skip


def word_piece() -> Tokenizer:
    """As BERT's: lower case, [CLS] and [SEP], [UNK] for what it never saw."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator(
        CORPUS,
        trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False),
    )
    ends = [(token, made.token_to_id(token)) for token in special[2:]]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    return made


def byte_level() -> Tokenizer:
    """As GPT-2's: every byte has a token, so a character may take several."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["[PAD]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    return made


@pytest.fixture(scope="session", params=[word_piece, byte_level], ids=lambda make: make.__name__)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """Each of the two, as transformers hands it to us."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=request.param(), pad_token="[PAD]")
