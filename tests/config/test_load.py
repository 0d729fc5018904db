"""From defaults, job file, environment and flags to one job that knows its sources."""

import json
import re
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from textassay.config.job_yaml import read_yaml
from textassay.config.load import flatten, resolve_job
from textassay.config.method_fields import OF_VIRTUAL_TOKENS
from textassay.config.rates import DEFAULT_RATES, LORA_RATE, METHODS_BY_RATE
from textassay.config.schema import METHODS, SECTIONS, Job
from textassay.config.trainer_fields import ELSEWHERE
from textassay.errors import UsageError
from textassay.files import project_root

# Later ones win. The rates differ, so that a value tells where it came from.
RATES = {"job file": 0.1, "env file": 0.2, "environment": 0.3, "flag": 0.4}
SUBSETS = [given for size in range(5) for given in combinations(RATES, size)]


def resolve(flags=None, job_file=None, env_file=None, environ=None, launcher=None):
    return resolve_job(job_file, env_file, environ or {}, flags or {}, launcher)


def job_of(**flags):
    """The job that flags alone make; `training__seed` stands for `training.seed`."""
    return resolve({key.replace("__", "."): value for key, value in flags.items()})[0]


def refusal(**given):
    with pytest.raises(UsageError) as caught:
        resolve(**given)
    return str(caught.value)


@pytest.mark.parametrize("given", SUBSETS, ids=" ".join)
def test_the_last_source_that_sets_a_value_wins_and_is_named(given, write):
    job = write("my.yaml", f"training: {{learning_rate: {RATES['job file']}}}")
    env = write("my.env", f"TEXTASSAY_TRAINING__LEARNING_RATE={RATES['env file']}")
    resolved, settings = resolve(
        job_file=job if "job file" in given else None,
        env_file=env if "env file" in given else None,
        environ={"TEXTASSAY_TRAINING__LEARNING_RATE": "0.3"} if "environment" in given else {},
        flags={"training.learning_rate": "0.4"} if "flag" in given else {},
    )
    sources = {"job file": str(job), "env file": str(env)}
    setting = {s.key: s for s in settings}["training.learning_rate"]
    winner = given[-1] if given else "default"
    assert setting.source == sources.get(winner, winner)
    assert setting.value == resolved.training.learning_rate == RATES.get(winner, 2e-3)


def test_without_any_source_every_value_is_the_schemas_default():
    job, settings = resolve()
    assert job == Job()
    assert {s.source for s in settings} == {"default"}


def test_every_field_of_the_schema_is_among_the_settings():
    fields = {f"{name}.{key}" for name, section in SECTIONS.items() for key in section.model_fields}
    fields |= Job.model_fields.keys() - SECTIONS.keys()
    assert flatten(Job()).keys() == fields


@pytest.mark.parametrize(
    "path", sorted((project_root() / "jobs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_job_that_comes_along_can_be_read_and_written_back(path, tmp_path):
    job, _ = resolve(job_file=path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml.safe_dump(job.model_dump(mode="json")))
    assert resolve(job_file=copy)[0] == job
    assert job != Job()


def test_a_job_cannot_be_changed_after_it_is_made():
    job = job_of(training__learning_rate="0.01")
    with pytest.raises(ValidationError, match="frozen"):
        job.training.learning_rate = 0.5
    with pytest.raises(ValidationError, match="frozen"):
        job.name = "other"


def test_an_unknown_key_is_refused_with_file_and_nearest_name(write):
    job = write("my.yaml", "training: {learning_rte: 0.1}")
    message = refusal(job_file=job)
    assert message.startswith(str(job))
    assert "learning_rte" in message
    assert "did you mean learning_rate?" in message


def test_an_unknown_key_is_blamed_on_the_source_that_holds_it(write):
    job = write("my.yaml", "training: {learning_rte: 0.1}")
    message = refusal(job_file=job, flags={"training.max_steps": "3"})
    assert message.startswith(str(job))


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("data.max_sample", "max_samples"),
        ("method.lora_alpa", "lora_alpha"),
        ("trainin.max_steps", "training"),
        ("seedz", "seeds"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest_one(key, nearest):
    assert f"did you mean {nearest}?" in refusal(flags={key: "1"})


def test_a_value_out_of_range_is_refused_with_setting_and_value():
    message = refusal(environ={"TEXTASSAY_TRAINING__LEARNING_RATE": "-1"})
    assert message.startswith("environment: training.learning_rate:")
    assert "'-1'" in message


@pytest.mark.parametrize("rate", ["inf", "nan"])
def test_a_rate_that_is_no_finite_number_is_refused(rate):
    with pytest.raises(UsageError, match="learning_rate"):
        job_of(training__learning_rate=rate)


@pytest.mark.parametrize("key", ELSEWHERE)
def test_what_is_decided_elsewhere_is_refused_with_the_place(key):
    assert ELSEWHERE[key] in refusal(flags={f"training.{key}": "1"})


@pytest.mark.parametrize("content", ["[1, 2]", "just words", "training: 3", "a: [", "\x00"])
def test_a_file_that_is_no_job_is_refused_by_name(content, write):
    assert "my.yaml" in refusal(job_file=write("my.yaml", content))


def test_an_empty_job_file_is_a_job_of_defaults_that_bears_its_name(write):
    job, _ = resolve(job_file=write("plain.yaml", ""))
    assert job == Job(name="plain")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-3", -3), ("1e-4", 1e-4), ("5.", 5.0),
        ("1:30", "1:30"), ("no", "no"), ("Yes", "Yes"), ("on", "on"), ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"), ("true", True), ("~", None), ("", None), ("null", None),
        (".inf", float("inf")), ("'010'", "010"), ("[no, yes]", ["no", "yes"]),
    ],
)  # fmt: skip
def test_a_job_file_is_yaml_1_2(text, value):
    assert read_yaml(f"key: {text}") == {"key": value}


@pytest.mark.parametrize(
    "content", ["training: {max_steps: 1}\ndata: {}\ntraining: {max_steps: 2}\n",
                "training:\n  max_steps: 1\n  max_steps: 2\n"],
)  # fmt: skip
def test_a_key_that_stands_twice_is_refused_with_its_line(content, write):
    said = refusal(job_file=write("my.yaml", content))
    assert "my.yaml" in said and "stands twice" in said and "line 3" in said


def test_a_few_bytes_of_aliases_do_not_become_much(write):
    """Nine names for nine of the one before would be 387 million values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi")]
    said = refusal(job_file=write("bomb.yaml", "\n".join(lines)))
    assert "bomb.yaml" in said and "more than 10,000 values" in said
    said = refusal(job_file=write("circle.yaml", "a: &a [*a]\n"))
    assert "more than 10,000 values" in said
    shared = "method: &method\n  name: lora\n  r: 4\nname: same\n"
    assert resolve(job_file=write("same.yaml", shared))[0].method.name == "lora"


def test_labels_that_look_like_switches_are_labels(write):
    job, _ = resolve(job_file=write("my.yaml", "data: {labels: [no, yes]}"))
    assert job.data.labels == ["no", "yes"]


def test_a_job_file_that_is_missing_is_named():
    assert "nowhere.yaml" in refusal(job_file=Path("nowhere.yaml"))


def test_text_becomes_the_type_that_the_setting_has():
    job = job_of(
        training__gradient_checkpointing="true",
        training__adam_beta1="0.8",
        training__dataloader_num_workers="2",
        method__use_dora="True",
        method__r="4",
        seeds="3, 1,2",
        data__column_names="text,label",
    )
    assert job.training.gradient_checkpointing is True
    assert job.training.library_settings()["adam_beta1"] == 0.8
    assert job.training.library_settings()["dataloader_num_workers"] == 2
    assert job.method.settings() == {"use_dora": True, "r": 4}
    assert job.seeds == [3, 1, 2]
    assert job.data.column_names == ["text", "label"]


def test_a_list_of_modules_is_separated_by_commas_and_one_name_stays_a_name():
    assert job_of(method__target_modules="query,value").method.settings() == {
        "target_modules": ["query", "value"]
    }
    # A single text is a pattern for PEFT, not a list of one.
    assert job_of(method__target_modules="all-linear").method.settings() == {
        "target_modules": "all-linear"
    }


@pytest.mark.parametrize("text", ["yes please", "2", ""])
def test_what_is_neither_true_nor_false_is_refused(text):
    with pytest.raises(UsageError, match="use_dora"):
        job_of(method__use_dora=text)


@pytest.mark.parametrize("seeds", ["", "1,1", "-1", "4294967296", "one"])
def test_seeds_that_cannot_be_are_refused(seeds):
    with pytest.raises(UsageError, match="seeds"):
        job_of(seeds=seeds)


@pytest.mark.parametrize(
    ("given", "precision"),
    [
        ({}, "auto"),
        ({"bf16": "true"}, "bf16"),
        ({"fp16": "true"}, "fp16"),
        ({"bf16": "false"}, "fp32"),
        ({"bf16": "false", "fp16": "true"}, "fp16"),
        ({"bf16": "true", "precision": "bf16"}, "bf16"),
        ({"precision": "fp32"}, "fp32"),
    ],
)
def test_bf16_and_fp16_are_said_as_one_precision(given, precision):
    flags = {f"training.{key}": value for key, value in given.items()}
    assert resolve(flags)[0].training.precision == precision


@pytest.mark.parametrize(
    "given", [{"bf16": "true", "fp16": "true"}, {"bf16": "true", "precision": "fp16"}]
)
def test_two_precisions_at_once_are_refused(given):
    flags = {f"training.{key}": value for key, value in given.items()}
    assert "contradict" in refusal(flags=flags)


def test_the_full_launcher_tunes_every_weight_unless_told_otherwise():
    job, settings = resolve(launcher="full")
    assert job.method.name == "full"
    assert {s.key: s.source for s in settings}["method.name"] == "launcher"
    assert "full" in refusal(flags={"method.name": "lora"}, launcher="full")


def test_every_method_has_one_default_learning_rate():
    listed = [name for names in METHODS_BY_RATE.values() for name in names]
    assert sorted(listed) == sorted(["full", *METHODS])
    assert Job().training.learning_rate == DEFAULT_RATES[Job().method.name] == LORA_RATE


@pytest.mark.parametrize("method", sorted(DEFAULT_RATES))
def test_a_method_trains_at_its_own_learning_rate_unless_one_is_named(method):
    tokens = {"method.num_virtual_tokens": "20"} if method in OF_VIRTUAL_TOKENS else {}
    flags = {"method.name": method, **tokens}
    launcher = "full" if method == "full" else "lora"
    for started_by in (launcher, "deepspeed"):
        assert (
            resolve(flags, launcher=started_by)[0].training.learning_rate == (DEFAULT_RATES[method])
        )
    named, _ = resolve({**flags, "training.learning_rate": "0.07"}, launcher=launcher)
    assert named.training.learning_rate == 0.07


def test_all_weights_have_their_rate_where_the_launcher_alone_says_so():
    job, settings = resolve(launcher="full")
    assert job.training.learning_rate == DEFAULT_RATES["full"] == 5e-5
    source = {s.key: s.source for s in settings}["training.learning_rate"]
    assert source == "default for full"


@pytest.mark.parametrize(
    ("flags", "fewest"),
    [
        ({}, 200),
        ({"training__learning_rate": "0.1"}, 200),
        ({"training__num_train_epochs": "1"}, 0),
        ({"training__max_steps": "5"}, 0),
        ({"training__num_train_epochs": "1", "training__fewest_steps": "30"}, 30),
    ],
)
def test_epochs_are_added_where_neither_epochs_nor_steps_are_named(flags, fewest):
    job = job_of(**flags)
    assert job.training.fewest_steps == fewest
    assert Job.model_validate(job.model_dump()) == job


def test_a_method_that_no_library_knows_is_refused():
    assert "did you mean lora?" in refusal(flags={"method.name": "lorra"})


def test_a_setting_of_another_method_is_refused():
    assert "lora_alpha" in refusal(flags={"method.name": "ia3", "method.lora_alpha": "8"})


def test_a_job_for_another_launcher_is_refused_with_the_right_script(write):
    job = write("my.yaml", "launcher: full")
    message = refusal(job_file=job, launcher="lora")
    assert message.startswith(str(job))
    assert "textassay train-full" in message


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({}, "adhoc"),
        ({"data.name": "sst2"}, "sst2"),
        ({"data.path": "folder/my reviews (2).csv"}, "my_reviews__2_"),
        ({"data.train_file": "评论.csv"}, "评论"),
        ({"name": "mine", "data.name": "sst2"}, "mine"),
    ],
)
def test_a_job_without_a_name_is_called_after_its_data(flags, name):
    assert resolve(flags)[0].name == name


@pytest.mark.parametrize("name", ["my.csv", "my.tsv", "my.json", "my.jsonl", "my.Parquet"])
def test_a_data_file_in_the_place_of_a_job_is_a_job_of_its_own(name, write):
    job, settings = resolve({"training.max_steps": "7"}, job_file=write(name, "text,label\na,b\n"))
    assert job.name == "my" and job.data.path and job.data.path.endswith(name)
    assert (job.launcher, job.seeds, job.training.max_steps) == ("lora", [0], 7)
    sources = {setting.key: setting.source for setting in settings}
    assert sources["data.path"] == "command line" and sources["name"] == "data.path"


def test_a_folder_in_the_place_of_a_job_is_data(tmp_path):
    (tmp_path / "reviews").mkdir()
    job, _ = resolve(job_file=tmp_path / "reviews", launcher="full")
    assert (job.name, job.data.path) == ("reviews", str(tmp_path / "reviews"))
    assert job.method.name == "full"


@pytest.mark.parametrize("name", ["../outside", "a/b", "", " ", "..", ".", "..."])
def test_a_name_that_would_leave_the_folder_of_runs_is_refused(name):
    assert "name" in refusal(flags={"name": name})


@pytest.mark.parametrize("value", ["1", "1.5", "true"])
def test_a_label_that_is_no_text_is_refused_with_the_quotes_it_needs(value, write):
    said = refusal(job_file=write("my.yaml", f"data: {{labels: [a, {value}]}}"))
    assert f"data.labels: {value} is no text here; put quotes round it" in said


def test_a_setting_that_stands_in_its_section_and_at_the_top_is_refused(write):
    job = write("my.yaml", "training.max_steps: 3\ntraining: {max_steps: 4}")
    assert "training.max_steps stands in its section, and once more at the top" in refusal(
        job_file=job
    )
    alone, _ = resolve(job_file=write("alone.yaml", "training.max_steps: 3"))
    assert alone.training.max_steps == 3


@pytest.mark.parametrize("first", ["bf16: true", "fp16: true", "precision: bf16"])
@pytest.mark.parametrize("later", [{"training.precision": "fp32"}, {"training.bf16": "false"}])
def test_a_later_source_overrules_a_precision_by_any_of_its_names(first, later, write):
    job = write("my.yaml", f"training: {{{first}}}")
    assert resolve(later, job_file=job)[0].training.precision == "fp32"


PINNED = "model: {model_name_or_path: org/base, revision: v1}"


@pytest.mark.parametrize(
    ("flags", "revision"),
    [
        ({}, "v1"),
        ({"model.model_name_or_path": "org/base"}, "v1"),
        ({"model.model_name_or_path": "org/other"}, None),
        ({"model.model_name_or_path": "org/other", "model.revision": "v2"}, "v2"),
        ({"model.revision": "v2"}, "v2"),
    ],
)
def test_a_revision_is_of_the_model_that_it_was_named_with(flags, revision, write):
    model = resolve(flags, job_file=write("my.yaml", PINNED))[0].model
    assert (model.revision, model.model_name_or_path.partition("/")[0]) == (revision, "org")


def test_the_jobs_that_come_along_name_a_commit_of_their_base():
    """All but one, of which none is known here; its job says so."""
    unknown = {"wsqstar/GISchat-weibo-100k-fine-tuned-bert"}
    for path in sorted((project_root() / "jobs").glob("*.yaml")):
        model = resolve(job_file=path)[0].model
        if model.model_name_or_path not in unknown:
            assert re.fullmatch("[0-9a-f]{40}", model.revision or ""), path


def test_a_long_value_is_not_shown_whole():
    assert len(refusal(flags={"training.learning_rate": "9" * 10_000 + "x"})) < 600


# Settings whose description speaks of files and directories, but which name none.
NO_PATHS = {
    "name", "launcher", "data.name", "data.column_names", "data.encoding", "data.label_type",
    "data.on_bad_rows", "data.skip_rows", "artifact.save_merged", "artifact.save_bin",
    "resources.nproc_per_node", "resources.gpus_per_node", "evaluation.calibrate",
}  # fmt: skip


def path_settings() -> dict[str, bool]:
    """Every setting that names a file or a directory, and whether it takes several."""
    told = re.compile(r"\b(files?|director(y|ies)|folder|path|artifact|rows, where|\w+ rows)\b")
    found = {}
    for section, outer in Job.model_fields.items():
        fields = getattr(outer.annotation, "model_fields", None) or {"": outer}
        for name, field in fields.items():
            key = f"{section}.{name}".strip(".")
            of_text = "str" in str(field.annotation)
            if (
                of_text
                and told.search(f"{name} {field.description}".replace("_", " "))
                and key not in NO_PATHS
            ):
                found[key] = "list" in str(field.annotation)
    return found


@pytest.mark.parametrize("source", ["flag", "environment", "env file", "job"])
@pytest.mark.parametrize("key", path_settings())
def test_a_tilde_in_a_path_is_the_users_home(key, source, monkeypatch, tmp_path):
    """Else half of a run would lie in a folder of that name, and half at home."""
    monkeypatch.setenv("HOME", "/home/somebody")
    section, name = key.split(".")
    variable = f"TEXTASSAY_{section}__{name}".upper()
    job_file, env_file, environ = None, None, {}
    flags = {"model.model_name_or_path": "org/base"} if section == "distillation" else {}
    if key == "distillation.unlabelled_files":
        flags["distillation.teacher"] = "org/teacher"
    if source == "flag":
        flags[key] = "~/x"
    elif source == "environment":
        environ = {variable: "~/x"}
    elif source == "env file":
        env_file = tmp_path / ".env"
        env_file.write_text(f'{variable}="~/x"\n')
    else:
        job_file = tmp_path / "job.yaml"
        value = "[~/x]" if path_settings()[key] else "~/x"
        job_file.write_text(f"{section}: {{{name}: {value}}}\n")
    if key == "model.model_name_or_path" and source != "flag":
        flags.pop(key, None)
    job, _ = resolve_job(job_file, env_file, environ, flags, "lora")
    wanted = "/home/somebody/x"
    assert getattr(getattr(job, section), name) == ([wanted] if path_settings()[key] else wanted)


def test_every_kind_of_path_is_among_them():
    assert path_settings().keys() == {
        "data.path", "data.train_file", "data.validation_file", "data.test_file",
        "model.model_name_or_path", "distillation.teacher", "distillation.unlabelled_files",
        "deepspeed.config_file", "artifact.runs_dir", "artifact.final_model_dir",
    }  # fmt: skip


def test_a_teacher_at_home_lends_its_rows(monkeypatch, tmp_path):
    run = tmp_path / "taught"
    run.mkdir()
    content = {"fingerprint": "sha256:0", "name": "taught", "data": {"path": "/rows.csv"},
               "model": {"max_seq_length": 77}}  # fmt: skip
    (run / "config.yaml").write_text(json.dumps(content))
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {"distillation.teacher": "~/taught", "model.model_name_or_path": "org/base"}
    job, _ = resolve_job(None, None, {}, given, "full")
    assert (job.data.path, job.model.max_seq_length) == ("/rows.csv", 77)
