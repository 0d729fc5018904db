"""Classifiers of other people: the right logits, alone and in a batch, or a refusal by its cause.

The doctor says the same as the loader.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers as hf
from tests.foreign_artifacts_for_tests import (
    GPT,
    LABELS,
    SIZES,
    TEXTS,
    Made,
    adapter,
    bert_like,
    changed,
    decoder_like,
    in_adapter,
    in_config,
    in_tokenizer,
    plain,
    roberta_like,
    with_tensor,
    xlnet_like,
)

from textassay.artifacts.classifier import Classifier
from textassay.artifacts.doctor.examine import examine
from textassay.errors import DataError, GateError, TextassayError
from textassay.models.predict import compute_logits

Make = Callable[[Path], Made]
BERT = plain(hf.BertConfig, bert_like, pad_token_id=0, **SIZES)
ROBERTA_SIZES = {**SIZES, "max_position_embeddings": 34, "pad_token_id": 1}
ROBERTA = plain(hf.RobertaConfig, roberta_like, length=32, **ROBERTA_SIZES)
LLAMA = {**SIZES, "num_key_value_heads": 2}


def decoder(config: type, pad: int | None, pad_token: str | None, template: str = "") -> Make:
    return plain(config, lambda: decoder_like(pad_token, template), pad_token_id=pad, **LLAMA)


ANSWERED: dict[str, Make] = {
    "bert": BERT,
    "bert, [CLS] in segment 1": plain(
        hf.BertConfig, lambda: bert_like(1), pad_token_id=0, **SIZES
    ),
    "positions begin at pad + 1": ROBERTA,
    "unused pooler": changed(ROBERTA, with_tensor("roberta.pooler.dense.weight", (32, 32))),
    "unused head": changed(BERT, with_tensor("cls.predictions.bias", (503,))),
    "length as text": changed(BERT, in_tokenizer(model_max_length="512")),
    "cut on the left": plain(
        hf.BertConfig, lambda: bert_like(truncation_side="left", model_max_length=20),
        length=20, pad_token_id=0, **SIZES,
    ),
    "default labels": plain(
        hf.BertConfig, bert_like, pad_token_id=0, **SIZES, id2label=None, label2id=None
    ),
    "names of another language in label2id": changed(
        BERT, in_config(label2id={"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2})
    ),
    "mpnet": plain(hf.MPNetConfig, roberta_like, length=32, **ROBERTA_SIZES),
    "distilbert": plain(
        hf.DistilBertConfig, bert_like, dim=32, n_layers=2, n_heads=4, hidden_dim=64
    ),
    "deberta": plain(hf.DebertaV2Config, bert_like, pad_token_id=0, **SIZES),
    "electra": plain(hf.ElectraConfig, bert_like, embedding_size=32, **SIZES),
    "albert": plain(hf.AlbertConfig, bert_like, embedding_size=16, pad_token_id=0, **SIZES),
    "padding gets through convolutions": plain(
        hf.ConvBertConfig, bert_like, embedding_size=32, head_ratio=2, conv_kernel_size=3,
        pad_token_id=0, **SIZES,
    ),
    "padding is mixed in": plain(hf.FNetConfig, bert_like, pad_token_id=0, **SIZES),
    "xlnet": plain(
        hf.XLNetConfig, xlnet_like, d_model=32, n_layer=2, n_head=4, d_inner=64, pad_token_id=2
    ),
    "bart": plain(
        hf.BartConfig, roberta_like, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
        decoder_ffn_dim=64, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2,
    ),
    "pad id of config is another": decoder(hf.MistralConfig, 2, "</s>"),
    "no pad token anywhere": decoder(hf.MistralConfig, None, None),
    "no pad token, end token behind": decoder(hf.LlamaConfig, None, None, "$A </s>"),
    "pad is the end token behind": decoder(hf.LlamaConfig, 1, "</s>", "$A </s>"),
    "pad id below 0": decoder(hf.Qwen2Config, -1, "<pad>"),
    "gpt2": plain(hf.GPT2Config, decoder_like, pad_token_id=2, **GPT),
    "gptj": plain(hf.GPTJConfig, decoder_like, pad_token_id=None, rotary_dim=4, **GPT),
    "bloom": plain(
        hf.BloomConfig, decoder_like, hidden_size=32, n_layer=2, n_head=4, pad_token_id=1
    ),
    "adapter": adapter(),
    "adapter in a pickle": adapter(safe_serialization=False),
    "adapter without a config": adapter(has_config=False),
    "adapter alone": adapter(has_config=False, has_tokenizer=False),
    "tokens added": adapter(added=["NEWTOK", "<user>"]),
    "tokens added, no config": adapter(added=["NEWTOK"], has_config=False),
    "tokens added, embeddings saved whole": adapter(
        added=["NEWTOK"], lora={"modules_to_save": ["word_embeddings", "classifier"]}
    ),
    "rows added that no token has": adapter(rows=32, save_embedding_layers=False),
    "a setting of a newer PEFT that is off": changed(adapter(), in_adapter(use_superscale=False)),
}  # fmt: skip
REFUSED: dict[str, tuple[Make, str]] = {
    "pooler nowhere": (adapter(hf.BertForMaskedLM), "pooler.dense.bias .* start at random"),
    "head half saved": (
        adapter(lora={"task_type": None, "modules_to_save": None}), "classification head is missing"
    ),
    "multi-label": (
        changed(BERT, in_config(problem_type="multi_label_classification")), "several labels"
    ),
    "regression": (changed(BERT, in_config(problem_type="regression")), "a number and no label"),
    "one logit": (
        plain(hf.BertConfig, bert_like, pad_token_id=0,
              **{**SIZES, **LABELS, "id2label": {0: "x"}, "label2id": {"x": 0}}), "one number"
    ),
    "labels contradict": (
        changed(BERT, in_config(label2id={"bad": 1, "good": 0, "fine": 2})), "label2id"
    ),
    "a layer too many": (
        changed(BERT, with_tensor("bert.encoder.layer.2.output.dense.bias", (32,))),
        "layer.2.*belongs to nothing",
    ),
    "number as text": (changed(BERT, in_config(hidden_size="wide")), "config.json"),
    "text as number": (changed(BERT, in_config(hidden_act=5)), "config.json|cannot be read"),
    "heads as text": (changed(BERT, in_config(num_attention_heads="4")), "config.json|cannot be"),
    "length no number": (changed(BERT, in_tokenizer(model_max_length="long")), "model_max_length"),
    "our settings odd": (
        changed(BERT, in_config(textassay={"max_seq_length": "128"})), "max_seq_length"
    ),
    "rank as text": (changed(adapter(), in_adapter(r="4")), "does not fit|has rank 4"),
    "base a number": (
        changed(adapter(), in_adapter(base_model_name_or_path=5)), "base_model_name_or_path"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERED)
def test_the_right_logits_alone_and_in_a_batch(name: str, tmp_path: Path) -> None:
    made = ANSWERED[name](tmp_path / "it")
    classifier = Classifier.load(made.folder, device="cpu")
    together = classifier.logits(TEXTS)
    alone = np.concatenate([classifier.logits([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, made.logits, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(together, made.logits, atol=1e-4, rtol=1e-5)
    assert np.ptp(together, axis=0).max() > 1e-3, "the texts must be told apart"
    assert examine(made.folder).count_wrong() == 0


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_answered_is_refused_by_its_cause(name: str, tmp_path: Path) -> None:
    make, cause = REFUSED[name]
    folder = make(tmp_path / "it").folder
    with pytest.raises(TextassayError, match=cause) as refused:
        Classifier.load(folder, device="cpu")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 700
    diagnosis = examine(folder)
    assert diagnosis.count_wrong() == 1, diagnosis.findings
    findings = " ".join(finding.what for finding in diagnosis.findings)
    assert any(word in findings for word in cause.replace(".*", "|").split("|"))


def test_a_text_with_a_token_that_was_not_saved_is_refused(tmp_path: Path) -> None:
    made = adapter(added=["NEWTOK"], save_embedding_layers=False)(tmp_path / "it")
    classifier = Classifier.load(made.folder, device="cpu")
    others = [text for text in TEXTS if "NEWTOK" not in text]
    right = [row for text, row in zip(TEXTS, made.logits or [], strict=True) if text in others]
    np.testing.assert_allclose(classifier.logits(others), right, atol=1e-5)
    with pytest.raises(DataError, match=r"text 3: has the token 'NEWTOK'"):
        classifier.logits(TEXTS)


def test_a_setting_that_this_peft_ignores_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = changed(adapter(), in_adapter(use_superscale=True, peft_version="0.99.0"))
    folder = make(tmp_path / "it").folder
    Classifier.load(folder, device="cpu")
    told = " ".join(capsys.readouterr().err.split())
    assert "does not know use_superscale=True" in told and "0.99.0" in told
    findings = examine(folder).findings
    assert [finding.severity for finding in findings] == ["note"]
    assert "use_superscale=True" in findings[0].what


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = BERT(tmp_path / "it").folder
    state = load_file(folder / "model.safetensors")
    state["classifier.bias"] = torch.full((3,), float("nan"))
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(GateError, match=r"classifier\.bias holds NaN"):
        Classifier.load(folder, device="cpu")
    assert examine(folder).count_wrong() == 1


def test_rows_of_one_length_are_all_that_a_sensitive_model_gets_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And others get rows of any length: padding is only avoided where it changes the answer."""
    from textassay.models import predict

    for name, is_sensitive in (("padding is mixed in", True), ("bert", False)):
        made = ANSWERED[name](tmp_path / name.replace(" ", "_"))
        loaded = Classifier.load(made.folder, device="cpu")._predictor
        rows = [loaded.ids([text])[0] for text in TEXTS]
        compute_logits(loaded.model, rows, 0)  # type: ignore[attr-defined]
        batches = list(predict._batches(loaded.model, rows, 0, 64))  # type: ignore[attr-defined]
        lengths = [{len(rows[row]) for row in batch} for batch in batches]
        assert sorted(row for batch in batches for row in batch) == list(range(len(rows)))
        assert (max(map(len, lengths)) == 1) == is_sensitive
