"""The plan's figures against models that were really built, and against each other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.classifiers_for_tests import ATTENTION, FAMILIES
from tests.classifiers_for_tests import build as built_for_real
from tests.models.test_methods import METHODS
from tests.planning.conftest import LABELS, LENGTH, job_on, model_of, seen

from textassay.artifacts.kinds import save_weights
from textassay.config.schema import MethodSection, ModelSection
from textassay.errors import UsageError
from textassay.models import cpu
from textassay.models.classifier import build_classifier, count_parameters
from textassay.models.methods import attach
from textassay.models.pruning import keep_heads
from textassay.models.source import find_model
from textassay.planning import heap
from textassay.planning.disk import disk_of
from textassay.planning.memory import LIBRARIES, find_place, footprint, largest_batch
from textassay.planning.rows import Rows
from textassay.planning.states import Tensor, cut_by_zero, optimizer_states
from textassay.planning.watch import Events, watch

Base = Callable[[str], Path]
BOTTLENECK = {"bottleneck": ("llama", {"name": "bottleneck", "bottleneck_size": 8}, "", 0)}
EVERY_METHOD = {**METHODS, **BOTTLENECK}


@pytest.mark.parametrize("name", ["full", *EVERY_METHOD])
def test_parameters_are_those_of_the_model_that_is_really_built(name: str, base_of: Base) -> None:
    family, settings, *_ = EVERY_METHOD.get(name, ("qwen2", {"name": "full"}))
    real = attach(built_for_real(base_of(family)), MethodSection.model_validate(settings), "base")
    launcher = "full" if name == "full" else "lora"
    job = job_on(base_of(family), launcher, **{f"method__{k}": v for k, v in settings.items()})
    assert count_parameters(model_of(job)) == count_parameters(real)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_parameters_in_4_bits_are_those_of_the_really_quantised_model(
    family: str, base_of: Base
) -> None:
    base = base_of(f"{family}-wide")
    section = ModelSection(load_in_4bit=True, max_seq_length=32)
    job = job_on(base, "lora", model__load_in_4bit=True,
                 method__target_modules=ATTENTION[family])  # fmt: skip
    real = build_classifier(find_model(str(base)), LABELS, section, None)
    tuned = attach(real, job.method, "base")
    planned = model_of(job)
    assert count_parameters(planned) == count_parameters(tuned)
    packed = [p for p in planned.parameters() if hasattr(p, "quant_state")]
    quantised = [p for p in tuned.parameters() if hasattr(p, "quant_state")]
    assert len(packed) == len(quantised) > 0
    # The real ones keep their scales, 1 / 64 byte a weight, beside the packed numbers.
    assert sum(p.numel() for p in packed) == pytest.approx(
        sum(p.numel() for p in quantised) * 33 / 32, rel=0.01
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_family_goes_through_a_step_from_its_config_alone(
    family: str, device: str, config_of: Base
) -> None:
    checkpointed = job_on(config_of(family), resources__device=device,
                          training__gradient_checkpointing=True)  # fmt: skip
    plain = job_on(config_of(family), resources__device=device)
    most, least = seen(plain).need(16), seen(checkpointed).need(16)
    assert 0 < least.activations < most.activations
    assert most.weights == least.weights == most.gradients
    assert most.states == 2 * most.weights


def test_every_head_goes_through_a_step(base_of: Base) -> None:
    linear = seen(job_on(base_of("llama")))
    mlp = seen(job_on(base_of("llama"), model__head="mlp"))
    scoring = seen(job_on(base_of("llama"), model__head="label_scoring",
                          data__prompt="{text} It is"))  # fmt: skip
    for other in (mlp, scoring):  # the MLP, and the output layer of the language model
        assert other.parameters[1] > linear.parameters[1]
        assert other.need(8).activations > other.need(4).activations > 0


def test_the_events_of_any_number_of_rows_follow_from_those_of_two_and_three(base_of: Base) -> None:
    found = seen(job_on(base_of("bert"), training__gradient_accumulation_steps=4))
    layer = torch.nn.Linear(5, 7, device="meta")
    for step in (found.step, found.evaluation):
        assert len(step.two.order) > 100
        assert step.rows(3).order == step.three.order
    rows = watch(lambda count: layer(torch.empty(count, 5, device="meta")), layer)
    sizes = {size for _, size in rows.rows(11).order}
    assert 11 * 7 * 4 in sizes


def test_a_peak_is_the_most_that_is_there_at_once() -> None:
    events = Events([(1, 10), (2, 5), (1, -1), (3, 8), (2, -1), (4, 6)], frozenset({3}))
    assert events.peak() == 15
    assert events.activations() == 15
    sizes = [size for number, size in events.order if number in events.gradients]
    assert sum(sizes) == 8, "gradients outlive the step"


def test_adapters_have_states_of_what_trains_alone(base_of: Base) -> None:
    found = seen(job_on(base_of("bert"), "lora", method__target_modules=["query", "value"]))
    trainable, total = found.parameters
    assert 0 < trainable < total / 2
    need = found.need(8)
    assert need.gradients == 4 * trainable
    assert need.states == 8 * trainable
    assert need.weights == 4 * total


def test_frozen_weights_are_rounded_in_bf16_on_a_cpu(base_of: Base) -> None:
    settings: dict[str, Any] = {"method__target_modules": ["query", "value"]}
    whole = seen(job_on(base_of("bert"), "lora", **settings)).need(8)
    rounded = seen(job_on(base_of("bert"), "lora", training__precision="bf16", **settings)).need(8)
    assert whole.weights / 2 < rounded.weights < whole.weights
    assert rounded.activations < whole.activations


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_zero_cuts_by_the_number_of_processes(processes: int, base_of: Base) -> None:
    def need(stage: int) -> Any:
        job = job_on(base_of("llama"), "deepspeed", method__name="full",
                     deepspeed__zero_stage=stage)  # fmt: skip
        return seen(job, processes).need(4)

    one, two, three = need(1), need(2), need(3)
    bytes_of_all = one.weights
    for found in (one, two, three):  # fp32 masters and two moments
        assert found.states == pytest.approx(3 * bytes_of_all / processes, abs=12)
    assert two.weights == bytes_of_all
    assert three.weights == pytest.approx(bytes_of_all / processes, abs=1)
    assert one.gradients == bytes_of_all
    assert two.gradients == three.gradients == pytest.approx(bytes_of_all / processes, abs=1)
    assert three.gathered == bytes_of_all and two.gathered == 0


def test_zero_offloads_what_it_is_told_to(base_of: Base) -> None:
    job = job_on(base_of("llama"), "deepspeed", method__name="full")
    tensors = [Tensor((100, 100), 20_000, True), Tensor((10,), 20, True)]  # in bf16
    zero = job.deepspeed
    plain = cut_by_zero(tensors, zero, 2)
    assert plain.at_step == 4 * 5005
    all_away = zero.model_copy(update={"offload_optimizer": True, "offload_param": True})
    away = cut_by_zero(tensors, all_away, 2)
    assert away.states == away.weights == away.gradients == away.at_step == 0
    kept = plain.states + plain.weights + plain.gradients + plain.at_step
    assert away.offloaded == kept
    assert away.gathered == plain.gathered == 20_020


def test_optimizers_keep_what_the_libraries_keep() -> None:
    parameter = torch.nn.Parameter(torch.zeros(96, 64))
    parameter.grad = torch.zeros_like(parameter)
    for name, kind in (("adamw_torch", torch.optim.AdamW), ("sgd", torch.optim.SGD),
                       ("adagrad", torch.optim.Adagrad)):  # fmt: skip
        optimizer = kind([parameter], lr=0.1)
        optimizer.step()
        kept = optimizer.state.get(parameter, {}).values()
        held = sum(t.nbytes for t in kept if isinstance(t, torch.Tensor) and t.numel() > 1)
        assert optimizer_states((96, 64), name) == held
    assert optimizer_states((96, 64), "adafactor") == 4 * (96 + 64)
    assert optimizer_states((96, 64), "paged_adamw_8bit") == 2 * (6144 + 4 * 24)
    assert optimizer_states((10,), "adamw_bnb_8bit") == 8 * 10  # too small to be quantised


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_largest_batch_fits_and_one_row_more_does_not(device: str, base_of: Base) -> None:
    found = seen(job_on(base_of("bert"), resources__device=device))
    beside = LIBRARIES if device == "cpu" else 0
    memory = beside + 20_000_000
    rows = largest_batch(found, memory)
    assert 1 < rows < 4096
    assert found.need(rows).peak + beside <= memory < found.need(rows + 1).peak + beside
    assert largest_batch(found, beside + 1000) == 0


def test_malloc_is_asked_with_the_settings_of_a_training() -> None:
    assert heap.keep_freed_memory is cpu.keep_freed_memory
    # Whether a place is found again is malloc's own affair, and why it is asked.
    step = [(1, 10**8), (1, heap.FREED)]
    found = heap.heap_size(heap.Layout([10**6], [10**6], [], step, [], [], []))
    assert found is not None and 101 * 10**6 <= found < (1 + heap.STEPS * 101) * 10**6


def test_on_a_cpu_the_heap_is_larger_than_what_is_in_it(base_of: Base) -> None:
    found = seen(job_on(base_of("bert")))
    few, many = found.need(8), found.need(64)
    for need in (few, many):
        assert need.live <= need.heap < 4 * need.live
        assert need.artifact == 4 * found.parameters[1]
        assert need.peak == need.heap + need.artifact
    assert many.peak > 2 * few.peak


def test_on_a_gpu_the_artifact_stands_beside_the_trained_model(base_of: Base) -> None:
    found = seen(job_on(base_of("bert"), "lora", resources__device="cuda",
                        method__target_modules=["query"]))  # fmt: skip
    need = found.need(1)  # of one row a step takes less than the end
    answering = found.answering.rows(found.rows_in_evaluation).peak()
    assert need.peak == need.live == need.weights + need.artifact + answering
    assert found.need(512).live > need.live
    zero = job_on(base_of("llama"), "deepspeed", method__name="full", resources__device="cuda",
                  training__precision="bf16")  # fmt: skip
    cut = seen(zero, 8)
    assert cut.need(1).artifact == 4 * cut.parameters[1] > 15 * cut.need(1).weights
    halves = cut.evaluation.rows(8).peak()
    assert halves < cut.answering.rows(8).peak(), "an artifact answers in fp32"


def test_where_malloc_cannot_be_asked_the_heap_is_a_guess(
    base_of: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textassay.planning.memory.heap_size", lambda layout: None)
    need = seen(job_on(base_of("bert"))).need(8)
    assert need.is_guessed and need.heap == 2 * need.live
    assert not seen(job_on(base_of("bert"), resources__device="cuda")).need(8).is_guessed


def test_a_pruned_base_is_planned_as_it_is(base_of: Base, tmp_path: Path) -> None:
    built = built_for_real(base_of("bert"))
    keep_heads(built.model, [[0]] * built.model.config.num_hidden_layers)
    save_weights(built.model, tmp_path)
    built.tokenizer.save_pretrained(tmp_path)
    again = build_classifier(
        find_model(str(tmp_path)), LABELS, ModelSection(max_seq_length=32), None
    )
    planned, whole = (model_of(job_on(base)) for base in (tmp_path, base_of("bert")))
    assert count_parameters(planned) == count_parameters(again.model) < count_parameters(whole)


def test_the_output_layer_of_a_language_model_is_not_packed(base_of: Base) -> None:
    job = job_on(base_of("llama-wide"), "lora", model__load_in_4bit=True,
                 model__head="label_scoring", data__prompt="{text} It is",
                 method__target_modules=["q_proj"])  # fmt: skip
    packed = [name for name, p in model_of(job).named_parameters() if hasattr(p, "quant_state")]
    assert packed and not any("lm_head" in name for name in packed)
    single = job.model.model_copy(update={"bnb_4bit_use_double_quant": False})
    sizes = [
        sum(p.nbytes for p in model_of(one).parameters() if hasattr(p, "quant_state"))
        for one in (job, job.model_copy(update={"model": single}))
    ]
    assert sizes[1] * 33 == sizes[0] * 36  # a scale of four bytes, not of one, for 32 bytes


def test_the_librarys_newer_name_of_checkpointing_counts(base_of: Base) -> None:
    plain = job_on(base_of("bert"))
    old = job_on(base_of("bert"), training__gradient_checkpointing=True)
    new = job_on(base_of("bert"), training__activation_checkpointing=True)
    assert seen(new).need(16).activations == seen(old).need(16).activations
    assert seen(new).need(16).activations < seen(plain).need(16).activations


def test_zero_shot_trains_nothing(base_of: Base) -> None:
    job = job_on(base_of("llama"), "lora", model__head="label_scoring", data__prompt="{text} It is",
                 training__num_train_epochs=0, method__target_modules=["q_proj"])  # fmt: skip
    found = seen(job)
    need, disk = found.need(64), disk_of(job, found)
    assert need.gradients == need.states == 0 and need.activations == need.evaluating
    assert disk.checkpoints == 0 < disk.artifact


@pytest.mark.parametrize(("wanted", "processes"), [
    ({"device": "cpu"}, 2), ({"device": "cpu", "nodes": 3}, 6),
    ({"device": "cpu", "nproc_per_node": 3}, 3), ({"gpus_per_node": 4, "nodes": 2}, 8),
    ({"gpus_per_node": 4, "nproc_per_node": 2}, 2), ({"gpus_per_node": 4, "device": "cpu"}, 2),
])  # fmt: skip
def test_processes_are_those_that_the_launcher_starts(
    wanted: dict[str, Any], processes: int, base_of: Base
) -> None:
    given = {f"resources__{name}": value for name, value in {"device": "auto", **wanted}.items()}
    job = job_on(base_of("bert"), "deepspeed", method__name="full", **given)
    assert find_place(job, None)[0].processes == processes


def test_a_precision_that_the_run_would_refuse_is_refused(base_of: Base) -> None:
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        seen(job_on(base_of("bert"), training__precision="fp16"))


def test_what_the_job_cannot_build_is_refused_as_the_run_would(base_of: Base) -> None:
    with pytest.raises(UsageError, match=r"target_modules: .*nowhere.*linear modules end in"):
        model_of(job_on(base_of("bert"), "lora", method__target_modules=["nowhere"]))
    with pytest.raises(UsageError, match=r"max_seq_length: 999 is more than the 64 positions"):
        model_of(job_on(base_of("bert"), model__max_seq_length=999))


def test_an_evaluation_keeps_nothing_for_a_backward(base_of: Base) -> None:
    found = seen(job_on(base_of("bert")))
    need = found.need(8)
    assert need.evaluating == found.evaluation.rows(64).peak()
    assert found.evaluation.rows(8).peak() < found.step.rows(8).activations() / 2
    assert found.evaluation.two.gradients == frozenset()


def test_few_rows_are_a_small_batch_but_not_where_processes_fill_theirs_up(base_of: Base) -> None:
    """accelerate repeats rows until every process has a whole batch."""
    rows = Rows(LABELS, LENGTH, LENGTH, train=100, validation=5)
    for launcher, in_a_batch in (("full", 5), ("deepspeed", 64)):
        job = job_on(base_of("bert"), launcher, method__name="full")
        place = find_place(job, None)[0]
        assert footprint(job, model_of(job), rows, place).rows_in_evaluation == in_a_batch
