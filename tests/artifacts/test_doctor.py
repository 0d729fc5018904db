"""Directories broken on purpose are named with their place; healthy ones of any maker are not."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from click.testing import CliRunner, Result
from scripts.doctor import main
from tests.classifiers_for_tests import FAMILIES, build, save, shake, tune
from tests.commands_for_tests import listed
from tests.doctor_cases import ADAPTER_CONFIG, NOTES, WRONG, Case, as_pickle, edit, emptied, put
from tests.models_for_tests import tiny_bert, tiny_llama
from tests.zero_checkpoint_for_tests import make_checkpoint

from textassay.artifacts.doctor.examine import examine
from textassay.artifacts.hallmark import restamp
from textassay.artifacts.kinds import load_artifact, save_weights
from textassay.artifacts.merging import merged_classifier
from textassay.data.prompt import Prompt

NAMES = {0: "bad", 1: "fine", 2: "good"}
MARK = "fingerprint: sha256:0\n"


def examined(folder: Path, *arguments: str) -> tuple[Result, list[dict[str, str]]]:
    """What the command says about a directory, and its findings."""
    result = CliRunner().invoke(main, [str(folder), "--json", *arguments])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result, json.loads(result.stdout)["findings"]


def plain(folder: Path, base: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A classifier as transformers alone saves it."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, id2label=NAMES, label2id={name: index for index, name in NAMES.items()}
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def peft_saved(
    folder: Path, base: Path, config: peft.PeftConfig, beside: bool = False
) -> Path:  # fmt: skip
    """An adapter and its head as PEFT alone saves them; `beside` adds config and tokenizer."""
    torch.manual_seed(0)
    pad_token_id = transformers.AutoTokenizer.from_pretrained(base).pad_token_id
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, id2label=NAMES, label2id={name: index for index, name in NAMES.items()},
        pad_token_id=1 if pad_token_id is None else pad_token_id,
    )  # fmt: skip
    shake(peft.get_peft_model(model, config)).save_pretrained(folder)
    if beside:
        model.config.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def lora(*targets: str, **settings: Any) -> peft.PeftConfig:
    return peft.LoraConfig(r=4, target_modules=[*targets], **{"task_type": "SEQ_CLS", **settings})


def _peft_configs() -> dict[str, tuple[str, peft.PeftConfig]]:
    """(family of the base, method): healthy adapters as PEFT alone makes them."""
    return {
        "peft lora": ("llama", lora("q_proj")),
        "peft dora": ("roberta", lora("query", use_dora=True)),
        "peft beside its config": ("roberta", lora("query")),
        "peft ranks": ("llama", lora("q_proj", "v_proj", rank_pattern={"v_proj": 2})),
        "peft embeddings": ("llama", lora("embed_tokens", "q_proj")),
        "peft pissa": ("llama", lora("q_proj", init_lora_weights="pissa")),
        "peft gpt2": ("gpt2", lora("c_attn", fan_in_fan_out=True)),
        "peft distilbert": ("distilbert", lora("q_lin")),
        "peft prompt": ("roberta", peft.PromptTuningConfig(
            task_type="SEQ_CLS", num_virtual_tokens=4)),
        "peft on a classifier": ("its head is the base's", lora("query", task_type=None)),
    }  # fmt: skip


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {name: make(root / name) for name, make in FAMILIES.items()}


@pytest.fixture(scope="module")
def whole(
    bases: dict[str, Path], make: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Healthy directories by name; not to be changed."""
    root = tmp_path_factory.mktemp("whole")
    found = {family: plain(root / family, base) for family, base in bases.items()}
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        found[name] = plain(root / name, bases["bert"], dtype)
    sharded = Path(shutil.copytree(found["bert"], root / "sharded"))
    (sharded / "model.safetensors").unlink()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(found["bert"])
    model.save_pretrained(sharded, max_shard_size="20KB")
    found["sharded"] = sharded
    for name, (family, config) in _peft_configs().items():
        base, beside = bases.get(family, found["roberta"]), "beside" in name
        found[name] = peft_saved(root / name.replace(" ", "_"), base, config, beside)
    for method in ("lora", "dora", "ia3", "full"):
        make(root / f"our_{method}", method)
        found[f"our {method}"] = root / f"our_{method}"
    return {**found, **_more_of_ours(root, bases, found["our lora"])}


def _more_of_ours(root: Path, bases: dict[str, Path], adapter: Path) -> dict[str, Path]:
    """Merged, with an MLP head, with label scoring, with a bottleneck, and a finished run."""
    merged = root / "our_merged"
    save_weights(merged_classifier(adapter), merged)
    for name in ("tokenizer.json", "tokenizer_config.json", "label_mapping.json"):
        shutil.copyfile(adapter / name, merged / name)
    restamp(merged, adapter, load_artifact(merged))
    mlp = build(bases["bert"], head="mlp")
    save(root / "our_mlp", mlp.model, mlp.tokenizer)
    prompt = Prompt("Text: ", "\nIt is")
    scorer = build(bases["llama"], prompt=prompt, head="label_scoring")
    tuned = tune(scorer, bases["llama"], name="lora", target_modules=["q_proj"])
    save(root / "our_scorer", tuned, scorer.tokenizer)
    built = build(bases["bert"])
    tuned = tune(built, bases["bert"], name="bottleneck", bottleneck_size=4)
    save(root / "our_bottleneck", tuned, built.tokenizer)
    run = root / "our_run"
    shutil.copytree(adapter, run / "model")
    (run / "config.yaml").write_text(MARK)
    (run / "finished.json").write_text("{}")
    names = ("merged", "mlp", "scorer", "bottleneck", "run")
    return {f"our {name}": root / f"our_{name}" for name in names}


# PEFT saves no config.json; a head that is the base's has the base's labels.
WITHOUT_CONFIG = {*_peft_configs()} - {"peft beside its config", "peft on a classifier"}
HEALTHY = [*FAMILIES, "fp16", "bf16", "sharded", *_peft_configs(), "our lora", "our dora",
           "our ia3", "our full", "our merged", "our mlp", "our scorer", "our bottleneck",
           "our run"]  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_found_in_what_is_healthy(name: str, whole: dict[str, Path]) -> None:
    before = {path: path.read_bytes() for path in whole[name].rglob("*") if path.is_file()}
    result, findings = examined(whole[name])
    lost = "no config.json lies beside the adapter"
    told = [found for found in findings if lost not in found["what"]]
    assert told == []
    assert bool(findings) == (name in WITHOUT_CONFIG), "what PEFT saves alone names no labels"
    assert result.exit_code == 0
    after = {path: path.read_bytes() for path in whole[name].rglob("*") if path.is_file()}
    assert before == after and len(before) > 2


@pytest.mark.parametrize("name", [name for name in HEALTHY if name != "our run"])
def test_what_is_called_healthy_loads(name: str, whole: dict[str, Path]) -> None:
    """Else the test above would prove little."""
    names = load_artifact(whole[name]).labels.names
    lost = tuple(f"LABEL_{index}" for index in NAMES)
    assert names == (lost if name in WITHOUT_CONFIG else tuple(NAMES.values()))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_nothing_is_found_in_a_checkpoint_of_the_trainer(
    method: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    folder = plain(tmp_path / "start", bases["roberta"])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    if method == "lora":
        config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"])
        model = peft.get_peft_model(model, config)
    arguments = transformers.TrainingArguments(
        tmp_path / "out", use_cpu=True, max_steps=2, save_steps=2, report_to="none",
        disable_tqdm=True,
    )  # fmt: skip
    rows = [{"input_ids": [2, 5 + index, 3], "labels": index} for index in range(3)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    transformers.Trainer(
        model, arguments, train_dataset=rows, processing_class=tokenizer
    ).train()  # fmt: skip
    result, findings = examined(tmp_path / "out" / "checkpoint-2")
    assert result.exit_code == 0
    assert [found["severity"] for found in findings] == ["note"] * (method == "lora")


@pytest.fixture
def broken(whole: dict[str, Path], tmp_path: Path) -> Callable[[Case], Path]:
    """broken(case): a copy of a healthy directory, broken."""

    def break_one(case: Case) -> Path:
        folder = Path(shutil.copytree(whole[case.whole], tmp_path / "it"))
        case.change(folder)
        return folder

    return break_one


@pytest.mark.parametrize("case", listed(WRONG))
def test_what_is_wrong_is_named(case: Case, broken: Callable[[Case], Path]) -> None:
    result, findings = examined(broken(case))
    wrong = [found for found in findings if found["severity"] == "wrong"]
    assert len(wrong) == 1, findings
    assert case.says in wrong[0]["what"]
    assert wrong[0]["what"].endswith(".") and wrong[0]["advice"].endswith(".")
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1 and "predictions cannot be trusted" in result.stderr


@pytest.mark.parametrize("case", listed(NOTES))
def test_what_should_be_known_is_noted(case: Case, broken: Callable[[Case], Path]) -> None:
    result, findings = examined(broken(case))
    assert [found["severity"] for found in findings] == ["note"]
    assert case.says in findings[0]["what"]
    assert (result.exit_code, result.stderr) == (0, "")


def test_what_the_base_does_not_hold_must_be_saved(
    bases: dict[str, Path], tmp_path: Path
) -> None:  # fmt: skip
    """PEFT saves what is called `classifier` or `score`; the pooler would start at random again."""
    result, findings = examined(peft_saved(tmp_path / "it", bases["bert"], lora("query")))
    assert "bert.pooler.dense.bias (and 1 more) is missing, so it would" in findings[0]["what"]
    assert (result.exit_code, [found["severity"] for found in findings]) == (3, ["wrong", "note"])


def test_another_base_is_noticed_by_its_hash(whole: dict[str, Path], tmp_path: Path) -> None:
    other = tiny_bert(tmp_path / "other", ["quite other words", "than before"])
    again = tiny_bert(tmp_path / "again")
    _, findings = examined(whole["our lora"], "--base-model-path", str(again))
    assert findings == []
    result, findings = examined(whole["our lora"], "--base_model_path", str(other))
    assert "the base has weights sha256:" in findings[0]["what"]
    assert result.exit_code == 3


def test_a_base_of_another_size_is_noticed(whole: dict[str, Path], tmp_path: Path) -> None:
    wider = tiny_llama(tmp_path / "wider", width=64)
    _, findings = examined(whole["peft lora"], "--base_model_path", str(wider))
    assert "has the shape [4, 32], where the config wants [4, 64]" in findings[0]["what"]


def test_an_adapter_in_a_model_would_be_applied_twice(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(whole["roberta"], tmp_path / "it"))
    for file in whole["peft dora"].glob("adapter_*"):
        shutil.copyfile(file, folder / file.name)
    result, findings = examined(folder)
    assert "model.safetensors: is the weights of a whole model" in findings[0]["what"]
    assert (result.exit_code, len(findings)) == (3, 1)


class Hostile:
    """What runs code when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, (f"open({str(self.witness)!r}, 'w').close()",))


def test_a_hostile_pickle_is_not_run(whole: dict[str, Path], tmp_path: Path) -> None:
    witness = tmp_path / "it ran"
    pickle.loads(pickle.dumps(Hostile(witness)))  # the trap is a real one
    witness.unlink()
    folder = Path(shutil.copytree(whole["bert"], tmp_path / "it"))
    as_pickle(folder)
    torch.save({"classifier.weight": Hostile(witness)}, folder / "pytorch_model.bin")
    result, findings = examined(folder)
    assert "pytorch_model.bin: holds more than tensors" in findings[0]["what"]
    assert (result.exit_code, witness.exists()) == (3, False)


def test_a_base_model_predicts_no_labels(bases: dict[str, Path]) -> None:
    result, findings = examined(bases["bert"])
    assert "a base model without a classification head" in findings[0]["what"]
    assert (result.exit_code, len(findings)) == (0, 1)


@pytest.mark.parametrize(
    ("files", "says"),
    [({}, "in it is nothing"), ({"a.txt": "", "b.txt": ""}, "in it are a.txt, b.txt"),
     ({"seed-1/config.yaml": "fingerprint: sha256:0"}, "seed-1 in it can be examined")],
)  # fmt: skip
def test_what_is_nothing_is_said_with_what_could_be(
    files: dict[str, str], says: str, write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    (tmp_path / "it").mkdir()
    for name, content in files.items():
        write(f"it/{name}", content)
    result = CliRunner().invoke(main, [str(tmp_path / "it")])
    assert result.exit_code == 3
    assert says in result.stdout and "kind        unknown" in result.stdout


@pytest.mark.parametrize("named", ["nowhere", "it/config.json"])
def test_a_path_that_is_no_directory_is_a_usage_error(
    named: str, write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    write("it/config.json", "{}")
    result = CliRunner().invoke(main, [str(tmp_path / named)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_a_named_base_that_is_nowhere_is_a_usage_error(whole: dict[str, Path]) -> None:
    result = CliRunner().invoke(main, [str(whole["our lora"]), "--base_model_path", "no/where"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no/where cannot be had" in result.stderr


def test_the_facts_are_printed(whole: dict[str, Path], bases: dict[str, Path]) -> None:
    result = CliRunner().invoke(main, [str(whole["our dora"])])
    lines = {
        line[2:14].strip(): line[14:] for line in result.stdout.splitlines() if line[:2] == "  "
    }
    assert lines["kind"] == "adapter"
    assert lines["method"] == "lora, r 8, DoRA"
    assert lines["labels"] == "bad, fine, good"
    assert lines["dtype"] == "float32"
    assert lines["hallmark"] == "yes"
    assert lines["on disk"].endswith("kB")
    assert int(lines["parameters"].replace(",", "")) > 1000
    assert "Nothing was found that is wrong." in result.stdout
    assert "unproved" not in result.stdout


def test_without_a_hallmark_it_says_what_cannot_be_known(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    """Swapped labels look like any others."""
    copy = tmp_path / "copy"
    shutil.copytree(whole["our dora"], copy, ignore=shutil.ignore_patterns("hallmark.json"))
    result = CliRunner().invoke(main, [str(copy)])
    assert result.exit_code == 0 and "unproved: without a hallmark" in result.stdout
    assert "labels are in the order" in examine(copy).to_json()["unproved"][0]
    assert examine(whole["our dora"]).to_json()["unproved"] == []


def test_nothing_reaches_for_the_network(
    whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    folder = Path(shutil.copytree(whole["peft lora"], tmp_path / "it"))
    edit(ADAPTER_CONFIG, base_model_name_or_path="its/base")(folder)
    for place in (folder, whole["bert"], whole["our lora"]):
        result, _ = examined(place)
        assert result.exit_code == 0


@pytest.fixture(scope="module")
def zero(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real checkpoint of stage 3, two ranks, with label names; not to be changed."""
    pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")
    root = tmp_path_factory.mktemp("zero")
    folder = make_checkpoint(root / "out", tiny_llama(root / "llama"), 3, 2, "bf16")
    edit("config.json", id2label=NAMES, label2id={n: i for i, n in NAMES.items()})(folder)
    return folder


@pytest.mark.slow
def test_nothing_is_found_in_a_whole_zero_checkpoint(zero: Path) -> None:
    for path in (zero, zero / "global_step2", zero.parent):
        result, findings = examined(path)
        assert (findings, result.exit_code) == ([], 0)
    facts = json.loads(result.stdout)["facts"]
    assert (facts["zero_stage"], facts["world_size"], facts["parameters"]) == (3, 2, 32704)


def rank_file(folder: Path, rank: int, kind: str) -> Path:
    return next(folder.glob(f"global_step2/*rank_{rank}_*{kind}_states.pt"))


def in_rank_0(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Other content in the first rank's file of the model."""

    def rewrite(folder: Path) -> None:
        file = rank_file(folder, 0, "model")
        content = torch.load(file, weights_only=False)
        change(content)
        torch.save(content, file)

    return rewrite


def cut_off(folder: Path) -> None:
    file = rank_file(folder, 1, "optim")
    file.write_bytes(file.read_bytes()[:-2000])


def one_rank_more(folder: Path) -> None:
    for kind in ("optim", "model"):
        file = rank_file(folder, 1, kind)
        shutil.copyfile(file, file.with_name(file.name.replace("rank_1", "rank_2")))


def empty_beside(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"score.weight": torch.ones(3)}, folder / "model.safetensors")
    emptied("score")(folder)


BROKEN_ZERO = [
    Case("rank missing", "", lambda f: rank_file(f, 1, "optim").unlink(),
         "files of rank 1 are missing"),
    Case("rank cut off", "", cut_off, "optim_states.pt: cannot be read; it may be cut off"),
    Case("rank too many", "", one_rank_more, "holds files of 3; two checkpoints were mixed"),
    Case("two steps", "", in_rank_0(lambda c: c.update(global_steps=9)), "is of step"),
    Case("latest nowhere", "", lambda f: ((f / "latest").write_text("global_step77")),
         "latest: names global_step77"),
    Case("parameter of no elements", "",
         in_rank_0(lambda c: c["param_shapes"][0].update({"extra.weight": torch.Size([0])})),
         "the parameter extra.weight has no elements"),
    Case("hostile", "", in_rank_0(lambda c: c.update(extra=Hostile(Path("it ran")))),
         "holds more than tensors and plain values"),
    Case("other labels", "", edit("config.json", id2label={"0": "a", "1": "b"},
                                  label2id={"a": 0, "b": 1}),
         "score.weight has the shape [3, 32], where config.json wants [2, 32]"),
    Case("other model", "", edit("config.json", num_hidden_layers=3),
         "the parameter model.layers.2.input_layernorm.weight (and 8 more) is missing"),
    Case("config no JSON", "", put("config.json", "{"), "config.json: is not JSON"),
    Case("empty weights beside", "", empty_beside,
         "model.safetensors: the tensor score.weight has no elements"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", listed(BROKEN_ZERO))
def test_what_is_wrong_in_a_zero_checkpoint_is_named(
    case: Case, zero: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(zero, tmp_path / "checkpoint-2"))
    case.change(folder)
    result, findings = examined(folder)
    assert [found["severity"] for found in findings] == ["wrong"], findings
    assert case.says in findings[0]["what"]
    assert result.exit_code == 3
    assert not Path("it ran").exists()


@pytest.mark.slow
def test_a_zero_checkpoint_without_its_config_is_noted(zero: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(zero, tmp_path / "checkpoint-2"))
    (folder / "config.json").rename(tmp_path / "kept.json")
    result, findings = examined(folder)
    assert "has no config.json" in findings[0]["what"] and len(findings) == 1
    assert "--base_model_path" in findings[0]["advice"]
    assert result.exit_code == 0
    (tmp_path / "base").mkdir()
    (tmp_path / "kept.json").rename(tmp_path / "base" / "config.json")
    assert examined(folder, "--base_model_path", str(tmp_path / "base"))[1] == []
