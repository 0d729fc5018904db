"""A student learns what its teacher answers: the loss, the rows, the layers, and whole runs."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.special import log_softmax
from tests.classifiers_for_tests import FAMILIES, LABELS, TEXTS, build, logits_of, save, tune
from tests.commands_for_tests import go_offline, script
from tests.models_for_tests import tiny_bert
from tests.training.conftest import run_on
from tests.training.killing import kill_after, run_to_the_end, trained_weights

from textassay.config.runs import Run
from textassay.config.schema import DistillationSection, TrainingSection
from textassay.data.encode import NO_LABEL
from textassay.data.labels import LabelMap
from textassay.errors import UsageError
from textassay.files import read_json, sha256_file
from textassay.models.methods import merge
from textassay.models.shortening import keep_layers
from textassay.training.distillation import DistillingTrainer, distillation_loss
from textassay.training.setup import assemble
from textassay.training.student_base import base_from_teacher
from textassay.training.teacher import TEACHER_LOGITS, ask, find_teacher
from textassay.training.trainer import build_trainer, loss_function

NO_SMOOTHING = SimpleNamespace(label_smoothing_factor=0.0)
HARD = loss_function(None, NO_SMOOTHING)


def loss(student, teacher, labels, alpha, temperature, rows=None):
    section = DistillationSection(teacher="t", alpha=alpha, temperature=temperature)
    outputs = SimpleNamespace(logits=torch.as_tensor(student))
    labels = torch.as_tensor(labels)
    return distillation_loss(HARD, torch.as_tensor(teacher), section, outputs, labels, rows)


def by_hand(student, teacher, labels, alpha, temperature):
    """The formula, row by row, in float64."""
    total = 0.0
    for own, taught, label in zip(student, teacher, labels, strict=True):
        q, p = log_softmax(own / temperature), log_softmax(taught / temperature)
        total += alpha * temperature**2 * (np.exp(p) * (p - q)).sum()
        if label != NO_LABEL:
            total -= (1 - alpha) * log_softmax(own)[label]
    return total / len(labels)


def drawn(seed, rows=7, labels=3):
    random = np.random.default_rng(seed)
    student, teacher = random.normal(0, 3, (2, rows, labels))
    return student, teacher, random.integers(NO_LABEL, labels, rows)


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0.5, 20))
def test_the_loss_is_the_formula(seed, alpha, temperature) -> None:
    student, teacher, labels = drawn(seed)
    found = loss(student, teacher, labels, alpha, temperature)
    assert float(found) == pytest.approx(
        by_hand(student, teacher, labels, alpha, temperature), 1e-4
    )


def test_the_batches_of_a_step_add_up_to_its_mean() -> None:
    student, teacher, labels = drawn(1, rows=10)
    whole = loss(student, teacher, labels, 0.3, 2.0)
    cuts = [slice(0, 4), slice(4, 8), slice(8, 10)]
    parts = [loss(student[c], teacher[c], labels[c], 0.3, 2.0, rows=10) for c in cuts]
    assert float(sum(parts)) == pytest.approx(float(whole), 1e-6)


def test_labels_count_for_nothing_at_alpha_1_and_the_teacher_at_alpha_0() -> None:
    student, teacher, labels = drawn(2)
    other = (labels + 2) % 3
    assert loss(student, teacher, labels, 1.0, 2.0) == loss(student, teacher, other, 1.0, 2.0)
    assert loss(student, teacher, labels, 0.0, 2.0) == loss(student, -teacher, labels, 0.0, 2.0)
    assert float(loss(student, student, labels, 1.0, 2.0)) == pytest.approx(0, abs=1e-6)


def test_six_of_twelve_layers_are_those_of_distilbert(tmp_path) -> None:
    import transformers

    sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 9}
    model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=12, **sizes))
    before = list(model.encoder.layer)
    assert keep_layers(model, 6) == [0, 2, 4, 7, 9, 11]
    assert list(model.encoder.layer) == [before[index] for index in (0, 2, 4, 7, 9, 11)]
    assert model.config.num_hidden_layers == 6
    with pytest.raises(UsageError, match="6 is not fewer than the teacher's 6 layers"):
        keep_layers(model, 6)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_is_cut_out_of_any_teacher(family, method, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TEXTASSAY_CACHE", str(tmp_path / "cache"))
    base = FAMILIES[family](tmp_path / "base")
    built = build(base)
    settings = {"full": {}, "lora": {"target_modules": "all-linear"}}[method]
    model = tune(built, base, name=method, **settings)
    loaded = save(tmp_path / "teacher", model, built.tokenizer)
    teacher = find_teacher(DistillationSection(teacher=str(tmp_path / "teacher")))
    source = base_from_teacher(teacher, 1)
    # The first layer is where it was, so all that was written bears the teacher's own names.
    whole = merge(loaded.model) if method == "lora" else loaded.model
    theirs = whole.base_model.state_dict()
    own = load_file(source.path / "model.safetensors")
    assert 0 < len(own) < len(theirs)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in own.items())
    assert logits_of(build(source.path)).shape == (len(TEXTS), len(LABELS))


@pytest.fixture
def teacher_folder(tmp_path, monkeypatch) -> Path:
    """A teacher of LABELS, without a hallmark, and a cache of its own."""
    monkeypatch.setenv("TEXTASSAY_CACHE", str(tmp_path / "cache"))
    base = tiny_bert(tmp_path / "base")
    built = build(base)
    save(tmp_path / "teacher", tune(built, base, name="full"), built.tokenizer)
    return tmp_path / "teacher"


def asked(folder, labels, texts=TEXTS):
    teacher = find_teacher(DistillationSection(teacher=str(folder)))
    column = pa.chunked_array([pa.array(texts, pa.large_string())])
    return np.array(ask(teacher, column, labels, "cpu")[TEACHER_LOGITS], dtype=np.float32)


def test_answers_come_in_the_order_of_the_students_labels(teacher_folder) -> None:
    own = asked(teacher_folder, LABELS)
    turned = asked(teacher_folder, LabelMap(LABELS.names[::-1]))
    assert np.array_equal(own[:, ::-1], turned) and not np.array_equal(own, turned)
    assert own.shape == (len(TEXTS), len(LABELS))


def test_a_teacher_is_asked_once(teacher_folder, capsys) -> None:
    first = asked(teacher_folder, LABELS)
    assert "asked about 5 texts" in capsys.readouterr().err
    assert np.array_equal(asked(teacher_folder, LABELS), first)
    assert "asked" not in capsys.readouterr().err
    asked(teacher_folder, LABELS, [*TEXTS, "one more"])
    assert "asked about 6 texts" in capsys.readouterr().err


def test_another_teacher_is_asked_anew(teacher_folder) -> None:
    first = asked(teacher_folder, LABELS)
    base = teacher_folder.parent / "base"
    built = build(base)
    shutil.rmtree(teacher_folder)
    save(teacher_folder, tune(built, base, scale=0.3, name="full"), built.tokenizer)
    assert not np.array_equal(asked(teacher_folder, LABELS), first)


def test_other_labels_are_refused_and_both_are_named(teacher_folder) -> None:
    with pytest.raises(UsageError, match="labels bad, fine, good, and the data have bad, great"):
        asked(teacher_folder, LabelMap(("bad", "great")))


def test_a_teacher_that_is_none_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match=r"^distillation\.teacher: no/such cannot be had"):
        find_teacher(DistillationSection(teacher="no/such"))


def weights_of(model):
    return torch.cat([parameter.detach().clone().ravel() for parameter in model.parameters()])


MORE = 'review\na fine film\nthe worst of all days\nwould buy it again\n"not bad, not good"\n'
SMALL = {"data__max_samples": 80, "training__num_train_epochs": 2}


@pytest.fixture(scope="module")
def teacher_run(tiny_base, tmp_path_factory) -> Run:
    """A finished run, whose answers all students below learn."""
    run = run_on(tiny_base, tmp_path_factory.mktemp("runs") / "teacher", **SMALL)
    run_to_the_end(run)
    return run


@pytest.fixture
def taught(teacher_run, make_run, write):
    """taught(folder, …): the run of a student, with texts that have no label."""

    def make(folder, **settings):
        more = {"distillation__unlabelled_files": str(write("more.csv", MORE * 4))}
        told = {"distillation__teacher": str(teacher_run.path), **more, **SMALL, **settings}
        return make_run(folder, **told)

    return make


@pytest.mark.slow
def test_a_students_run_says_who_taught_it_and_how_it_compares(taught, teacher_run) -> None:
    run = taught("student", launcher="full")
    run_to_the_end(run)
    stamp = sha256_file(teacher_run.model_dir / "hallmark.json")
    said = read_json(run.path / "provenance.json")["teacher"]
    assert said["hallmark"] == stamp and said["kind"] == "adapter"
    assert read_json(run.model_dir / "hallmark.json")["made_by"]["teacher"]["hallmark"] == stamp
    assert said["unlabelled"] > 0
    assert said["unlabelled"] == read_json(run.path / "train_results.json")["unlabelled_rows"]
    beside = read_json(run.path / "teacher.json")
    assert beside["rows"] == read_json(run.path / "test_results.json")["test_rows"]
    own, theirs = read_json(run.path / "test_results.json"), teacher_run.path
    assert beside["student"]["scores"]["macro_f1"]["value"] == own["test_macro_f1"]
    found = read_json(theirs / "test_results.json")["test_macro_f1"]
    assert beside["teacher"]["scores"]["macro_f1"]["value"] == pytest.approx(found, abs=1e-9)
    gap = beside["student_minus_teacher"]["macro_f1"]
    assert gap["value"] == pytest.approx(own["test_macro_f1"] - found, abs=1e-9)
    assert gap["low"] <= gap["value"] <= gap["high"]
    for name in ("test_summary.txt", "report.html"):
        assert f"teacher: {teacher_run.path}" in (run.path / name).read_text()
    assert f"| teacher | {teacher_run.path} |" in (run.model_dir / "README.md").read_text()


@pytest.mark.slow
def test_a_killed_student_ends_with_the_same_weights(taught) -> None:
    settings = {
        "launcher": "full",
        "training__per_device_train_batch_size": 8,
        "training__gradient_accumulation_steps": 2,
        "training__save_strategy": "steps",
        "training__save_steps": 3,
    }
    unbroken, broken = taught("unbroken", **settings), taught("broken", **settings)
    run_to_the_end(unbroken)
    kill_after(broken, "checkpoint-6", 0.02)
    assert not broken.is_finished()
    run_to_the_end(broken)
    assert trained_weights(broken.path) == trained_weights(unbroken.path)


@pytest.mark.slow
def test_a_step_weighs_its_rows_alike_however_it_is_cut(taught, tiny_base, tmp_path) -> None:
    """Rows without a label are counted: plain SGD would show another scale, Adam would not."""
    still = tmp_path / "still"
    shutil.copytree(tiny_base, still)
    config = (still / "config.json").read_text()
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        assert f'"{name}": 0.1' in config
        config = config.replace(f'"{name}": 0.1', f'"{name}": 0.0')
    (still / "config.json").write_text(config)
    settings = {
        "launcher": "full", "model__model_name_or_path": str(still), "training__optim": "sgd",
        "training__learning_rate": 0.5, "training__max_steps": 3, "training__precision": "fp32",
        "training__train_sampling_strategy": "random", "training__max_grad_norm": 0,
        "training__lr_scheduler_type": "constant", "training__warmup_steps": 0,
    }  # fmt: skip
    ends = []
    for batch, parts in ((16, 1), (4, 4)):
        run = taught(
            f"cut-{parts}", **settings, training__per_device_train_batch_size=batch,
            training__gradient_accumulation_steps=parts,
        )  # fmt: skip
        setup = assemble(run)
        start = weights_of(setup.model)
        trainer = build_trainer(
            setup.model, setup.tokenizer, setup.rows(), setup.arguments, run.job.training, "",
            DistillingTrainer,
        )  # fmt: skip
        trainer.section = run.job.distillation
        trainer.train()
        ends.append(weights_of(setup.model))
    moved = float((ends[0] - start).abs().max())
    assert moved > 0.01
    assert float((ends[0] - ends[1]).abs().max()) < 0.01 * moved


@pytest.mark.slow
def test_the_command_cuts_and_teaches_a_student(teacher_run, write, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    go_offline(monkeypatch, tmp_path / "caches")
    distill, teacher = script("distill"), teacher_run.path
    refused = distill(teacher)
    assert refused.exit_code == 2 and "--student_layers N" in refused.stderr
    done = distill(
        teacher, "--student_layers", 1, "--max_steps", 4, "--baselines", "false",
        "--bootstrap_samples", 100, "--unlabelled", write("more.csv", MORE),
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    folder = Path("runs/sentiment5_en-student/seed-0")
    assert read_json(folder / "model" / "config.json")["num_hidden_layers"] == 1
    assert read_json(folder / "provenance.json")["base"]["origin"].startswith("layers 1 of 2 of")
    theirs = read_json(teacher / "provenance.json")["data"]["fingerprints"]
    assert read_json(folder / "provenance.json")["data"]["fingerprints"] == theirs
    assert "the teacher" in done.stdout and "difference" in done.stdout
    # An artifact like any other.
    judged = script("evaluate")(folder)
    assert judged.exit_code == 0, judged.stderr


def test_class_weights_come_from_the_rows_that_have_labels() -> None:
    from textassay.training.trainer import class_weights

    train = SimpleNamespace(data={"labels": pa.chunked_array([[0, 0, 0, 1, NO_LABEL, NO_LABEL]])})
    weights = class_weights(train, TrainingSection(class_weights="balanced"))
    assert weights.tolist() == pytest.approx([4 / 6, 2.0])
