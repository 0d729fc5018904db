"""The older emotion trainer's `.env`, said in our settings."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from textassay.config.emotion_env import COMMON, OWN, TUNING, emotion_settings, is_emotion_env
from textassay.config.load import resolve_job
from textassay.config.schema import Job
from textassay.errors import UsageError
from textassay.files import project_root

# As that system's document lists it; values that it leaves open are filled in.
DOCUMENTED = """\
# 基础配置
DATA_PATH=data/emotion_data_manual.csv
MODEL_NAME=google-bert/bert-base-chinese
MAX_LENGTH=128
NUM_TRAIN_EPOCHS=10
TARGET_EMOTIONS=高兴,厌恶,害羞

# DoRA配置
DORA_R=8
DORA_ALPHA=16
DORA_DROPOUT=0.9
DORA_TARGET_MODULES=query,key,value,dense
DORA_USE_MAGNITUDE=true

# RSLora配置
USE_RSLORA=true
RSLORA_R=16
RSLORA_ALPHA=32
RSLORA_DROPOUT=0.1
RSLORA_TARGET_MODULES=query,value

# 训练配置
DEVICE=cpu
LEARNING_RATE=2e-5
PER_DEVICE_TRAIN_BATCH_SIZE=16
PER_DEVICE_EVAL_BATCH_SIZE=32

# 输出配置
OUTPUT_DIR_BASE=./output
FINAL_MODEL_DIR=./final_model
"""
DENSE = ["attention.output.dense", "intermediate.dense", "output.dense"]
ATTENTION = [f"attention.self.{name}" for name in ("query", "key", "value")]
# Every linear layer of a BERT classifier.
BERT = [*(f"bert.encoder.layer.{n}.{name}" for n in (0, 11) for name in [*ATTENTION, *DENSE]),
        "bert.pooler.dense", "classifier"]  # fmt: skip
NAMES = ["query", "key", "value", "dense", "attention.self.query", "self.query", *DENSE]


def lines(**changes: str | None) -> str:
    """The documented file with lines changed, added, or (None) left out."""
    kept = [line for line in DOCUMENTED.splitlines() if line.partition("=")[0] not in changes]
    return "\n".join(
        kept + [f"{name}={value}" for name, value in changes.items() if value is not None]
    )


@pytest.fixture
def settled(write):
    """settled(NAME=value, …): the job of the documented file with these changes."""

    def settle(environ=None, **changes):
        return resolve_job(None, write("my.env", lines(**changes)), environ or {}, {}, None)[0]

    return settle


@pytest.fixture
def refused(write):
    """refused(NAME=value, …): what is said about the documented file with these changes."""

    def refuse(**changes):
        with pytest.raises(UsageError) as caught:
            resolve_job(None, write("my.env", lines(**changes)), {}, {}, None)
        message = str(caught.value)
        assert "\n" not in message and "my.env" in message
        return message

    return refuse


def said(**given):
    """(settings, one text of all notes) for variables alone."""
    settings, notes = emotion_settings(given)
    return settings, "\n".join(notes)


def test_the_documented_file_has_every_name():
    named = set(re.findall(r"^(\w+)=", DOCUMENTED, re.MULTILINE))
    assert named == COMMON.keys() | OWN.keys() | TUNING
    assert len(named) == 21


def test_every_value_arrives_in_the_job(settled):
    job = settled()
    assert job.name == "emotion_data_manual" and job.seeds == [0] and job.launcher == "lora"
    assert job.data.path == "data/emotion_data_manual.csv"
    assert job.data.labels == ["高兴", "厌恶", "害羞"]
    assert job.model.model_name_or_path == "google-bert/bert-base-chinese"
    assert job.model.max_seq_length == 128
    assert job.training.num_train_epochs == 10 and job.training.learning_rate == 2e-5
    assert job.training.per_device_train_batch_size == 16
    assert job.training.per_device_eval_batch_size == 32
    assert job.resources.device == "cpu"
    assert job.artifact.runs_dir == "./output" and job.artifact.final_model_dir == "./final_model"
    assert job.method.name == "lora"
    assert job.method.settings() == {
        "r": 16, "lora_alpha": 32, "lora_dropout": 0.1, "use_dora": True, "use_rslora": True,
        "target_modules": ["query", "value", "key", *DENSE],
        "rank_pattern": dict.fromkeys(("key", *map(re.escape, DENSE)), 8),
        "alpha_pattern": dict.fromkeys(("key", *map(re.escape, DENSE)), 16),
    }  # fmt: skip


def test_what_one_adapter_cannot_do_is_said():
    variables = dict(re.findall(r"^(\w+)=(.*)$", DOCUMENTED, re.MULTILINE))
    assert emotion_settings(variables)[1] == [
        "an adapter has one dropout: RSLORA_DROPOUT 0.1 applies everywhere, DORA_DROPOUT 0.9 "
        "nowhere (90% of the inputs dropped: suspicious)",
        "named in both parts, so of rank 16 and alpha 32 (rsLoRA's): query, value",
        "DoRA's magnitudes and rsLoRA's scaling apply to every module of the adapter",
        "dense stands for attention.output.dense, intermediate.dense, output.dense; the pooler is "
        "left as it is",
    ]


@given(st.lists(st.sampled_from(NAMES), min_size=1), st.lists(st.sampled_from(NAMES), min_size=1))
def test_each_module_has_the_rank_of_the_part_that_names_it(dora, rslora):
    settings, _ = said(DORA_TARGET_MODULES=",".join(dora), RSLORA_TARGET_MODULES=",".join(rslora))
    config = LoraConfig(target_modules=settings["method.target_modules"])
    for module in BERT:
        wanted = 16 if names(rslora, module) else 8 if names(dora, module) else None
        found = None
        if check_target_module_exists(config, module):
            patterns = settings.get("method.rank_pattern", {})
            assert patterns.keys() == settings.get("method.alpha_pattern", {}).keys()
            found = patterns.get(get_pattern_key(patterns, module), settings["method.r"])
        assert found == wanted, module


def names(modules: list[str], module: str) -> bool:
    """Whether a list names a module by its end; `dense` never names the pooler's."""
    return "pooler" not in module and any(module.endswith(f".{name}") for name in modules)


def test_without_rslora_doras_part_rules_alone(settled):
    job = settled(USE_RSLORA="false")
    assert job.method.settings() == {
        "r": 8, "lora_alpha": 16, "lora_dropout": 0.9, "use_dora": True, "use_rslora": False,
        "target_modules": ["query", "key", "value", *DENSE],
        "rank_pattern": {}, "alpha_pattern": {},
    }  # fmt: skip
    _, notes = said(USE_RSLORA="false", DORA_DROPOUT="0.9")
    assert "DORA_DROPOUT is 0.9 (90% of the inputs dropped: suspicious)" in notes
    assert "rsLoRA" not in notes


def test_without_magnitudes_it_is_no_dora(settled):
    assert settled(DORA_USE_MAGNITUDE="false").method.settings()["use_dora"] is False
    _, notes = said(DORA_USE_MAGNITUDE="false", DORA_R="8")
    assert "rsLoRA's scaling apply" in notes and "magnitudes" not in notes


@pytest.mark.parametrize("word", ["TRUE", "Yes", "on", "1"])
@pytest.mark.parametrize("no", ["False", "NO", "off", "0"])
def test_switches_are_read_as_people_write_them(word, no, settled):
    method = settled(USE_RSLORA=word, DORA_USE_MAGNITUDE=no).method.settings()
    assert (method["use_rslora"], method["use_dora"], method["r"]) == (True, False, 16)
    method = settled(USE_RSLORA=no, DORA_USE_MAGNITUDE=word).method.settings()
    assert (method["use_rslora"], method["use_dora"], method["r"]) == (False, True, 8)


def test_without_modules_of_its_own_rslora_has_doras_and_says_so(settled):
    method = settled(RSLORA_TARGET_MODULES=None).method.settings()
    assert method["target_modules"] == ["query", "key", "value", *DENSE]
    assert method["r"] == 16 and method["rank_pattern"] == {}
    assert "RSLORA_TARGET_MODULES is not set" in said(USE_RSLORA="true")[1]


@pytest.mark.parametrize("name", sorted(TUNING | {"DORA_USE_MAGNITUDE", "USE_RSLORA"}))
def test_what_is_missing_or_empty_has_its_documented_value(name, settled):
    if name != "RSLORA_TARGET_MODULES":  # which has none
        assert settled(**{name: None}) == settled(**{name: ""}) == settled()


@pytest.mark.parametrize("name", [*COMMON, *OWN])
def test_what_is_missing_elsewhere_has_our_default(name, settled):
    key = (COMMON | OWN)[name]
    section, _, field = key.partition(".")
    if section != "method":
        assert getattr(getattr(settled(**{name: None}), section), field) == getattr(
            getattr(Job(), section), field
        )


@pytest.mark.parametrize(
    "written",
    [
        "高兴,害怕,平静",
        "高兴， 害怕，平静",
        "高兴、害怕、平静",
        '["高兴", "害怕", "平静"]',
        "'高兴,害怕,平静,'",
    ],
)
def test_lists_are_read_however_they_are_written(written, settled):
    assert settled(TARGET_EMOTIONS=written).data.labels == ["高兴", "害怕", "平静"]
    modules = written.replace("高兴", "key").replace("害怕", "query").replace("平静", "value")
    method = settled(DORA_TARGET_MODULES=modules, USE_RSLORA="false").method.settings()
    assert method["target_modules"] == ["key", "query", "value"]


@pytest.mark.parametrize(
    ("device", "wanted"),
    [("cpu", "cpu"), ("CPU", "cpu"), ("cuda", "cuda"), ("cuda:0", "cuda"), ("gpu", "cuda"),
     ("auto", "auto")],
)  # fmt: skip
def test_devices_are_read_as_people_write_them(device, wanted, settled):
    assert settled(DEVICE=device).resources.device == wanted


def test_another_variable_may_stand_in_a_value(settled, monkeypatch):
    monkeypatch.setenv("PLACE", "/somewhere")
    job = settled(FINAL_MODEL_DIR="${OUTPUT_DIR_BASE}/final")
    assert job.artifact.final_model_dir == "./output/final"
    job = settled(OUTPUT_DIR_BASE="${PLACE}/o", FINAL_MODEL_DIR="${OUTPUT_DIR_BASE}/f",
                  MODEL_NAME="${MODEL:-a-base}")  # fmt: skip
    assert job.artifact.final_model_dir == "/somewhere/o/f"
    assert job.model.model_name_or_path == "a-base"


def test_a_variable_that_nobody_sets_is_an_error(refused, monkeypatch):
    monkeypatch.delenv("PLACE", raising=False)
    message = refused(FINAL_MODEL_DIR="${PLACE}/final")
    assert "FINAL_MODEL_DIR is '${PLACE}/final'" in message and "sets PLACE" in message


def test_a_quote_that_is_not_closed_is_named_with_its_line(write):
    path = write("my.env", "MODEL_NAME=x\nDATA_PATH='a.csv\n")
    with pytest.raises(UsageError, match=r"my\.env, line 2: is no NAME=value"):
        resolve_job(None, path, {}, {}, None)


def test_a_label_that_is_named_twice_is_refused(refused):
    assert "'高兴' is named twice" in refused(TARGET_EMOTIONS="高兴,厌恶,高兴")


def test_beside_a_job_the_file_rules_the_tuning_only_if_it_speaks_of_it(write):
    job_file = project_root() / "jobs" / "emotion19_bert_dora_rslora.yaml"
    alone = resolve_job(job_file, None, {}, {}, None)[0]
    labels = resolve_job(job_file, write("a.env", "TARGET_EMOTIONS=高兴,厌恶\n"), {}, {}, None)[0]
    assert labels.method == alone.method and labels.data.labels == ["高兴", "厌恶"]
    few = "USE_RSLORA=false\nDORA_R=4\nDORA_ALPHA=8\nDORA_TARGET_MODULES=query,key,value\n"
    tuned = resolve_job(job_file, write("b.env", few), {}, {}, None)[0].method.settings()
    assert alone.method.settings()["rank_pattern"] == {"key": 8, "dense": 8}
    assert tuned["rank_pattern"] == tuned["alpha_pattern"] == {} and tuned["r"] == 4


@pytest.mark.parametrize("name", ["DORA_R", "DORA_ALPHA", "DORA_DROPOUT", "RSLORA_R",
                                  "RSLORA_ALPHA", "RSLORA_DROPOUT"])  # fmt: skip
@pytest.mark.parametrize("value", ["eight", "8,5"])
def test_a_bad_number_of_a_part_is_named(name, value, refused):
    whole = "a number" if name.endswith("DROPOUT") else "a whole number"
    assert f"{name} is '{value}', and takes {whole}." in refused(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("MAX_LENGTH", "long", "model.max_seq_length"),
        ("NUM_TRAIN_EPOCHS", "ten", "training.num_train_epochs"),
        ("LEARNING_RATE", "-1", "training.learning_rate"),
        ("PER_DEVICE_TRAIN_BATCH_SIZE", "0", "training.per_device_train_batch_size"),
        ("PER_DEVICE_EVAL_BATCH_SIZE", "x", "training.per_device_eval_batch_size"),
        ("DEVICE", "tpu", "resources.device"),
        ("USE_RSLORA", "perhaps", "use_rslora"),
        ("DORA_USE_MAGNITUDE", "2", "use_dora"),
    ],
)
def test_a_bad_value_is_refused_with_file_and_setting(name, value, key, refused):
    message = refused(**{name: value})
    assert key in message and repr(value) in message


def test_names_that_nobody_reads_are_listed():
    _, notes = said(DORA_R="8", WANDB_KEY="1", HF_HOME="x", TEXTASSAY_TRAINING__MAX_STEPS="3")
    assert "not read: HF_HOME, WANDB_KEY" in notes.splitlines()


def test_a_file_that_notepad_wrote_is_read(write):
    path = write("my.env", f"\ufeff{lines()}".replace("# 基础配置\n", "").replace("\n", "\r\n"))
    assert resolve_job(None, path, {}, {}, None)[0].data.path == "data/emotion_data_manual.csv"


def test_our_own_variables_in_the_same_file_win(settled):
    job = settled(TEXTASSAY_TRAINING__LEARNING_RATE="0.5", TEXTASSAY_ARTIFACT__SAVE_BIN="true")
    assert job.training.learning_rate == 0.5 and job.artifact.save_bin is True


def test_the_environment_of_the_process_is_not_asked():
    environ = dict(re.findall(r"^(\w+)=(.*)$", DOCUMENTED, re.MULTILINE))
    assert resolve_job(None, None, environ, {}, None)[0] == Job()


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (["DORA_R"], True),
        (["TARGET_EMOTIONS"], True),
        (["FINAL_MODEL_DIR"], True),
        (["DATA_PATH", "MODEL_NAME"], True),
        (["DEVICE", "LEARNING_RATE"], False),
        (["DATA_PATH", "SECRET"], False),
        (["TEXTASSAY_TRAINING__MAX_STEPS"], False),
        ([], False),
    ],
)
def test_a_file_is_that_trainers_by_names_of_its_own(given, ours):
    assert is_emotion_env(dict.fromkeys(given, "1")) is ours
    assert is_emotion_env(dict.fromkeys(given, "")) is False


def test_another_programs_file_changes_no_method(write):
    path = write("my.env", "DEVICE=cuda\nTEXTASSAY_TRAINING__MAX_STEPS=3\n")
    job, settings = resolve_job(None, path, {}, {}, None)
    assert {s.key for s in settings if s.source == str(path)} == {"training.max_steps"}
    assert job.resources.device == "auto" and job.method == Job().method
