"""Label scoring: what one forward pass gives is what a pass for each label would give."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.classifiers_for_tests import (
    ATTENTION,
    DECODERS,
    ENCODERS,
    FAMILIES,
    build,
    ids_of,
    logits_of,
    padded,
    resized,
    save,
    tune,
)
from tokenizers.decoders import ByteLevel, WordPiece
from transformers import AutoModelForCausalLM

from textassay.artifacts.kinds import load_artifact
from textassay.artifacts.merging import merged_classifier
from textassay.config.load import resolve_job
from textassay.config.runs import Run
from textassay.data.labels import LabelMap
from textassay.data.load import load_dataset
from textassay.data.prompt import Prompt
from textassay.data.read import read_file
from textassay.errors import UsageError
from textassay.files import project_root, read_json
from textassay.models.classifier import build_classifier, load_tokenizer
from textassay.models.scoring import label_token_ids, score_labels, tokens_behind
from textassay.models.source import find_model

PROMPT = Prompt("Read: ", " It was")
# One token, two that begin alike, four; with and without what stands before.
TOKENS = [[7], [7, 9], [12, 30, 5, 8], [7, 10, 11]]
SINGLE = [[7], [9], [30]]


def language_model(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def one_by_one(
    model: Any, rows: Sequence[Sequence[int]], label_tokens: list[list[int]]
) -> torch.Tensor:
    """log p(label | text) by a forward pass of its own for each row and label."""
    scores = []
    for row in rows:
        for tokens in label_tokens:
            logits = model(input_ids=torch.tensor([[*row, *tokens]])).logits[0]
            log_p = torch.log_softmax(logits, -1)
            places = range(len(row) - 1, len(row) + len(tokens) - 1)
            scores.append(
                sum(log_p[place, token] for place, token in zip(places, tokens, strict=True))
            )
    return torch.stack(scores).view(len(rows), len(label_tokens))


@pytest.fixture
def rows() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(5, 60, (n,), generator=generator).tolist() for n in (1, 3, 9, 20)]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("label_tokens", [SINGLE, TOKENS], ids=["single", "several"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", DECODERS)
def test_one_pass_gives_the_scores_of_many_and_their_gradients(
    family: str, attention: str, label_tokens: list[list[int]], side: str,
    rows: list[list[int]], base_of: Callable[[str], Path],
) -> None:  # fmt: skip
    model = language_model(base_of(family))
    model.set_attn_implementation(attention)
    wanted = one_by_one(model, rows, label_tokens)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    (wanted * weights).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    found = score_labels(model, **padded(rows, 1, side, extra=2), label_tokens=label_tokens)
    assert found.shape == (len(rows), len(label_tokens))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-6)
    (found * weights).sum().backward()
    assert max(grad.abs().max() for grad in gradients.values()) > 1e-2
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-4)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["tinystories-llama-260k", "tinystories-llama-1m-char"])
def test_a_real_language_model_scores_words_as_it_would_alone(name: str, real_data: Path) -> None:
    base = real_data.parent / "checkpoints" / name
    built = build(base, LabelMap(("happy", "sad", "over the moon")), PROMPT, head="label_scoring")
    texts = ["Once upon a time there was a little girl.", "The dog was sad.", "She cried."]
    rows = ids_of(built.tokenizer, texts, PROMPT)
    tokens = built.model.config.textassay["label_tokens"]
    assert max(len(label) for label in tokens) > 2
    built.prompt = PROMPT
    with torch.inference_mode():
        wanted = one_by_one(language_model(base), rows, tokens)
    np.testing.assert_allclose(logits_of(built, texts=texts), wanted, rtol=1e-5)


NAMES = {
    "short": ("bad", "fine", "good"),
    "long": ("very negative", "negative", "neutral", "very positive"),
    "chinese": ("差", "好", "很好"),
    "mixed": ("差评", "good", "😀"),
    "digits": ("0", "1", "2"),
}
CUES = {
    "word": Prompt("", " It was"),
    "space": Prompt("", "\nsentiment: "),
    "chinese": Prompt("", "，评价："),
    "none": Prompt("Read: ", ""),
}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One of bytes and one of word pieces, which know the labels and can write tokens as text."""
    texts = [prompt.fill(f"film {name}") for prompt in CUES.values()
             for names in NAMES.values() for name in names]  # fmt: skip
    made = {}
    for family, decoder in (("llama", ByteLevel()), ("gpt2", WordPiece())):
        folder = FAMILIES[family](tmp_path_factory.mktemp(f"knows-{family}"), texts)
        made[family] = load_tokenizer(str(folder))
        made[family].backend_tokenizer.decoder = decoder
    return made


@pytest.mark.parametrize("cue", CUES)
@pytest.mark.parametrize("names", NAMES)
def test_a_labels_tokens_are_those_behind_the_prompt(
    names: str, cue: str, tokenizers: dict[str, Any]
) -> None:
    """With one space before them where a word or a text precedes, and none where that is written
    already, or where words are not set apart."""
    tokenizer, labels, prompt = tokenizers["llama"], LabelMap(NAMES[names]), CUES[cue]
    found = label_token_ids(tokenizer, labels, prompt)
    for name, tokens in zip(labels.names, found, strict=True):
        wanted = f" {name}" if name.isascii() and cue != "space" else name
        assert tokenizer.decode(tokens) == wanted
        filled = prompt.fill("a good film")
        start, whole = (tokenizer(text)["input_ids"] for text in (filled, filled + wanted))
        assert tokenizer.decode(start + tokens) == filled + wanted
        if whole[: len(start)] == start:
            assert start + tokens == whole


@pytest.mark.parametrize("cue", CUES)
@pytest.mark.parametrize("names", NAMES)
def test_no_special_token_belongs_to_a_label(
    names: str, cue: str, tokenizers: dict[str, Any]
) -> None:
    """A tokenizer of BERT's kind ends every text with one."""
    tokenizer, labels = tokenizers["gpt2"], LabelMap(NAMES[names])
    found = label_token_ids(tokenizer, labels, CUES[cue])
    for name, tokens in zip(labels.names, found, strict=True):
        assert tokens and not set(tokens) & set(tokenizer.all_special_ids)
        assert tokenizer.decode(tokens).replace(" ", "") == name.replace(" ", "")


def test_labels_that_no_model_could_tell_apart_are_refused(base_of: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(str(base_of("gpt2")))  # in lower case
    with pytest.raises(UsageError, match=r"cannot tell 'good' from 'Good': .*rename a label"):
        label_token_ids(tokenizer, LabelMap(("bad", "good", "Good")), PROMPT)
    with pytest.raises(UsageError, match="cannot tell '' from 'bad'"):
        label_token_ids(tokenizer, LabelMap(("bad", "")), Prompt("", " It was "))
    with pytest.raises(UsageError, match="cannot tell '猫' from '坏'"):
        label_token_ids(tokenizer, LabelMap(("猫", "坏")), PROMPT)  # both unknown
    # A beginning is at least as probable as the whole: it would win for every text.
    with pytest.raises(UsageError, match="cannot tell 'good' from 'good film'"):
        label_token_ids(tokenizer, LabelMap(("dull", "good film", "good")), PROMPT)


@pytest.fixture(scope="module")
def other_decoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A tiny language model of another architecture, with Llama's tokenizer."""

    def make(kind: str, **settings: Any) -> Path:
        config = getattr(transformers, f"{kind}Config")
        folder = tmp_path_factory.mktemp(kind)
        base = FAMILIES["llama"](folder / "llama")
        sizes = json.loads((base / "config.json").read_text())
        named = ["vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings"]
        named += ["num_hidden_layers", "num_attention_heads", "num_key_value_heads"]
        made = config(**{name: sizes[name] for name in named}, **settings)
        shutil.copytree(base, folder / "base")
        getattr(transformers, f"{kind}ForCausalLM")(made).save_pretrained(folder / "base")
        return folder / "base"

    return make


def test_a_model_that_scales_its_logits_is_refused(other_decoder: Callable[..., Path]) -> None:
    labels = LabelMap(("bad", "very good", "far too long"))
    with pytest.raises(UsageError, match="does not fit granite models: their own log probability"):
        build(other_decoder("Granite", logits_scaling=4.0), labels, PROMPT, head="label_scoring")
    build(other_decoder("Granite", logits_scaling=1.0), labels, PROMPT, head="label_scoring")


def test_a_model_that_looks_back_too_little_is_refused(other_decoder: Callable[..., Path]) -> None:
    labels, longest = LabelMap(("bad", "very good")), 48 + 8
    with pytest.raises(UsageError, match="looks back 30 tokens at most; lower it to"):
        build(other_decoder("Mistral", sliding_window=30), labels, PROMPT, head="label_scoring")
    base = other_decoder("Mistral", sliding_window=longest)
    build(base, labels, PROMPT, head="label_scoring")


def test_what_label_scoring_cannot_do_is_said(
    base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(UsageError, match=r"label_scoring needs data\.prompt"):
        build(base_of("llama"), head="label_scoring")
    for family in ENCODERS:
        with pytest.raises(UsageError, match=r"needs a decoder|no language model"):
            build(base_of(family), head="label_scoring", prompt=PROMPT)
    built = build(base_of("llama"))
    save(tmp_path, built.model, built.tokenizer)
    with pytest.raises(UsageError, match=r"holds no lm_head\.weight; label_scoring needs"):
        build(tmp_path, head="label_scoring", prompt=PROMPT)
    path = tmp_path / "model.safetensors"
    state = {k: t for k, t in load_file(path).items() if k != "score.weight"}
    save_file(state, path, {"format": "pt"})
    with pytest.raises(UsageError, match=r"holds no lm_head\.weight; label_scoring needs"):
        build(tmp_path, head="label_scoring", prompt=PROMPT)


def test_room_for_the_labels_is_counted(base_of: Callable[[str], Path], tmp_path: Path) -> None:
    """A text of max_seq_length and the longest label have to fit into the positions."""
    labels = LabelMap(("a good film", "dull"))
    tokens = build(base_of("gpt2"), labels, PROMPT, head="label_scoring").model.config.textassay
    longest = max(len(label) for label in tokens["label_tokens"])
    assert longest > 2
    for spare, fits in ((longest - 1, True), (longest - 2, False)):
        base = resized(base_of("gpt2"), tmp_path / str(spare), n_positions=48 + spare)
        if fits:
            built = build(base, labels, PROMPT, head="label_scoring")
            with torch.inference_mode():
                full = built.model(**padded([[7] * 48], 0)).logits
            assert full.isfinite().all()
        else:
            with pytest.raises(UsageError, match=r"max_seq_length: \d+ is more than"):
                build(base, labels, PROMPT, head="label_scoring")


@pytest.mark.parametrize("method", ["full", "lora", "bottleneck"])
@pytest.mark.parametrize("family", DECODERS)
def test_a_tuned_scorer_comes_back_and_merges_to_the_same_scores(
    family: str, method: str, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    labels = LabelMap(("bad", "very good", "far too long"))
    built = build(base_of(family), labels, PROMPT, head="label_scoring")
    targets = {"target_modules": ATTENTION[family]} if method == "lora" else {}
    model = tune(built, base_of(family), 0.05, name=method, **targets)
    loaded = save(tmp_path / "saved", model, built.tokenizer, labels)
    assert loaded.prompt == built.model.config.textassay["prompt"] or loaded.prompt == PROMPT
    built.prompt = PROMPT
    before = logits_of(built, model)
    assert np.ptp(before, axis=0).max() > 1e-2
    np.testing.assert_allclose(logits_of(loaded), before, atol=1e-5)
    if method == "lora":
        merged = merged_classifier(tmp_path / "saved")
        again = save(tmp_path / "merged", merged, built.tokenizer, labels)
        np.testing.assert_allclose(logits_of(again), before, atol=1e-4)
        # A merged scorer is a language model like any other.
        plain = language_model(tmp_path / "merged")
        behind = tokens_behind(built.tokenizer)
        assert behind == (1 if family == "gpt2" else 0), "BERT's tokenizer puts [SEP] there"
        found = ids_of(built.tokenizer, ["a good film", "dull"], PROMPT)
        rows = [ids[: len(ids) - behind] for ids in found]
        with torch.inference_mode():
            scores = one_by_one(plain, rows, again.model.config.textassay["label_tokens"])
        np.testing.assert_allclose(
            scores, logits_of(again, texts=["a good film", "dull"]), atol=1e-4
        )


@pytest.fixture(scope="module")
def story_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose tokenizer knows the sample's words."""
    sample = read_file(project_root() / "data" / "samples" / "sentiment5_en.csv")
    return FAMILIES["llama"](
        tmp_path_factory.mktemp("story"), sample.columns["text"].to_pylist(), 128
    )


def scoring_run(base: Path, folder: Path, launcher: str, **given: str) -> Run:
    settings = {
        "data.name": "sentiment5_en",
        "data.max_samples": "60",
        "data.prompt": "{text} It was",
        "model.model_name_or_path": str(base),
        "model.head": "label_scoring",
        "model.max_seq_length": "48",
        "evaluation.baselines": "false",
        "evaluation.bootstrap_samples": "100",
        "evaluation.probe_rows": "4",
        **given,
    }
    job, _ = resolve_job(None, None, {}, settings, launcher)
    return Run(job, 0, folder)


@pytest.mark.slow
def test_zero_shot_is_the_untouched_language_model(story_base: Path, tmp_path: Path) -> None:
    from textassay.training.run import run_training

    run = scoring_run(story_base, tmp_path / "run", "full", **{"training.num_train_epochs": "0"})
    run_training(run)
    assert run.is_finished()
    loaded = load_artifact(run.model_dir)
    dataset = load_dataset(run.job.data)
    texts = dataset.splits["test"]["text"].to_pylist()[:6]
    tokens = loaded.model.config.textassay["label_tokens"]
    rows = ids_of(loaded.tokenizer, texts, loaded.prompt)
    plain = language_model(story_base)
    with torch.inference_mode():
        wanted = one_by_one(plain, rows, tokens)
    np.testing.assert_allclose(logits_of(loaded, texts=texts), wanted, atol=1e-5)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert read_json(run.path / "train_results.json")["global_step"] == 0
    assert 0 <= read_json(run.path / "test_results.json")["test_accuracy"] <= 1


@pytest.mark.slow
def test_a_scorer_learns_the_rows_that_it_sees(story_base: Path, tmp_path: Path) -> None:
    from textassay.training.run import run_training

    run = scoring_run(
        story_base, tmp_path / "run", "lora",
        **{"training.num_train_epochs": "12", "training.learning_rate": "2e-2",
           "training.per_device_train_batch_size": "12", "method.target_modules": "all-linear",
           "training.precision": "fp32", "training.metric_for_best_model": "loss",
           "training.eval_strategy": "steps", "training.eval_steps": "500"},
    )  # fmt: skip
    run_training(run)
    dataset = load_dataset(run.job.data)
    train = dataset.splits["train"]
    truth = np.array(dataset.labels.ids(train["label"].to_pylist()))
    texts = train["text"].to_pylist()
    prompt = Prompt.from_template("{text} It was", dataset.labels.names)
    built = build_classifier(find_model(str(story_base)), dataset.labels, run.job.model, prompt)
    built.prompt = prompt
    before = logits_of(built, built.model.eval(), texts)
    after = logits_of(load_artifact(run.model_dir), texts=texts)
    accuracy = [(scores.argmax(1) == truth).mean() for scores in (before, after)]
    assert accuracy[0] < 0.4
    assert accuracy[1] > accuracy[0] + 0.2
