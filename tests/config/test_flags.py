"""Command lines: every setting is a flag, and `--show_config` says where each value came from."""

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from textassay.config.flags import ALIASES, batch_options, run_options
from textassay.config.load import flatten
from textassay.config.schema import Job
from textassay.config.user_path import UserPath

# What people expect to be able to type, from the systems that they know.
EXPECTED = [
    "model_name_or_path", "train_file", "validation_file", "test_file", "text_column",
    "label_column", "max_seq_length", "per_device_train_batch_size", "gradient_accumulation_steps",
    "learning_rate", "num_train_epochs", "max_steps", "seed", "output_dir",
    "metric_for_best_model", "bf16", "fp16", "gradient_checkpointing", "resume_from_checkpoint",
    "report_to", "lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_dora",
    "use_rslora", "use_lora", "num_epochs", "batch_size", "model_path", "data_path",
    "model_max_length", "max_samples",
]  # fmt: skip


class Launcher:
    """A launcher's command line that keeps its runs instead of carrying them out."""

    def __init__(self, launcher="lora"):
        self.runs = []
        self.command = run_options(launcher)(self.carry_out)

    def carry_out(self, run):
        """Fine-tune something."""
        self.runs.append(run)

    def call(self, *arguments, **environment):
        env = {"COLUMNS": "200", **environment}
        return CliRunner().invoke(self.command, [str(a) for a in arguments], env=env)

    def run(self, *arguments, **environment):
        """The one run that these arguments make."""
        result = self.call(*arguments, **environment)
        assert result.exit_code == 0, result.output
        return self.runs.pop()


@pytest.fixture
def launcher():
    return Launcher()


def names_of(command):
    return {name for p in command.params if isinstance(p, click.Option) for name in p.opts}


def test_every_setting_of_a_job_is_a_flag(launcher):
    from textassay.config.aliases import keys_of_flags

    assert flatten(Job()).keys() - set(keys_of_flags().values()) == {"launcher"}
    assert {f"--{flag}" for flag in keys_of_flags()} <= names_of(launcher.command)


@pytest.mark.parametrize("flag", EXPECTED)
def test_a_flag_that_people_know_from_elsewhere_is_there(flag, launcher):
    assert f"--{flag}" in names_of(launcher.command)


@pytest.mark.parametrize("flag", ["--learning_rate", "--learning-rate"])
def test_a_flag_is_written_with_either_kind_of_dash(flag, launcher):
    assert launcher.run(flag, "0.5").job.training.learning_rate == 0.5


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_an_alias_sets_what_it_stands_for(alias, launcher):
    needed = ("--teacher", "t", "--student", "s") if alias == "unlabelled" else ()
    plain = flatten(launcher.run(*needed).job)
    changed = flatten(launcher.run(*needed, f"--{alias}", "17").job)
    different = {key for key in plain if plain[key] != changed[key]} - {"name"}
    if ALIASES[alias] == "training.num_train_epochs":
        different -= {"training.fewest_steps"}  # nobody adds to epochs that were named
    assert different == {ALIASES[alias]}
    assert str(changed[ALIASES[alias]]).strip("[]'").removesuffix(".0") == "17"


@pytest.mark.parametrize(
    ("arguments", "precision"),
    [
        (["--bf16"], "bf16"),
        (["--bf16", "true"], "bf16"),
        (["--bf16", "false"], "fp32"),
        (["--fp16", "--max_steps", "1"], "fp16"),
    ],
)
def test_a_switch_works_with_and_without_a_value(arguments, precision, launcher):
    assert launcher.run(*arguments).job.training.precision == precision


def test_fields_of_the_libraries_are_flags_by_their_own_names(launcher):
    job = launcher.run(
        "--adam_beta2", "0.9", "--lora_r", "4", "--use_dora", "--modules_to_save", "a,b"
    ).job
    assert job.training.library_settings()["adam_beta2"] == 0.9
    assert job.method.settings() == {"r": 4, "use_dora": True, "modules_to_save": ["a", "b"]}


def test_flags_win_over_the_environment_which_wins_over_the_file(launcher, write):
    job = write("my.yaml", "training: {max_steps: 1, warmup_steps: 1, eval_steps: 1}")
    env = {"TEXTASSAY_TRAINING__MAX_STEPS": "2", "TEXTASSAY_TRAINING__WARMUP_STEPS": "2"}
    training = launcher.run(job, "--max_steps", "3", **env).job.training
    assert (training.max_steps, training.warmup_steps, training.eval_steps) == (3, 2, 1)


def test_a_run_goes_under_its_jobs_name_and_seed_unless_told_otherwise(launcher, tmp_path):
    assert launcher.run("--seed", "7").path == Path("runs/adhoc/seed-7")
    assert launcher.run("--name", "b", "--seeds", "7").path == Path("runs/b/seed-7")
    assert launcher.run("--output_dir", tmp_path).path == tmp_path


def test_a_launcher_takes_the_first_of_several_seeds_and_says_so(launcher):
    result = launcher.call("--seeds", "5,6")
    assert launcher.runs[0].seed == 5
    assert "seed 5, the first of 2" in result.stderr


def test_force_and_resume_reach_the_run(launcher):
    plain = launcher.run()
    told = launcher.run("--force", "--resume_from_checkpoint", "none")
    assert (plain.force, plain.resume) == (False, "auto")
    assert (told.force, told.resume) == (True, "none")


def test_show_config_prints_every_setting_with_its_source_and_runs_nothing(launcher, write):
    env = write("my.env", "TEXTASSAY_DATA__MAX_SAMPLES=9")
    result = launcher.call(
        "--show_config", "--env_file", env, "--max_steps", "3", TEXTASSAY_MODEL__REVISION="main"
    )
    assert result.exit_code == 0
    assert launcher.runs == []
    rows = {words[0]: words for line in result.stdout.splitlines() if (words := line.split())}
    assert flatten(Job()).keys() <= rows.keys()
    assert rows["training.max_steps"] == ["training.max_steps", "3", "flag"]
    assert rows["model.revision"] == ["model.revision", "main", "environment"]
    assert rows["training.weight_decay"] == ["training.weight_decay", "0.01", "default"]
    assert rows["data.max_samples"][1] == "9"


@pytest.mark.parametrize("value", ["[mask] {text}", "[/b]{text}", "{text} [red]"])
def test_show_config_prints_brackets_as_they_stand(value, launcher):
    result = launcher.call("--show_config", "--prompt", value)
    assert value in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--learning_rate", "fast"],
        ["--method", "full"],
        ["--use_lora", "--method", "full", "--seed", "-1"],
        ["nowhere.yaml"],
        ["--env_file", "nowhere.env"],
        ["--learning_rte", "1"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2_and_a_message(arguments, launcher):
    result = launcher.call(*arguments)
    assert result.exit_code == 2
    assert "error: " in result.stderr.lower()
    assert "Traceback" not in result.output
    assert launcher.runs == []


def test_use_lora_is_another_word_for_the_method(launcher):
    assert launcher.run("--use_lora").job.method.name == "lora"
    assert launcher.run("--use_lora", "false", "--method", "ia3").job.method.name == "ia3"


def test_the_full_launcher_needs_no_further_word():
    assert Launcher("full").run().job.method.name == "full"


def test_a_batch_hands_each_launcher_what_it_was_told(launcher, write):
    calls = []

    def keep(runs, overrides):
        """Carry out everything."""
        calls.append((runs, overrides))

    jobs = [write("a.yaml", "seeds: [1, 2]"), write("b.yaml", "data: {name: sst2}")]
    env = write("my.env", "TEXTASSAY_DATA__MAX_SAMPLES=9")
    flags = ["--lr_scheduler_type", "cosine", "--bf16", "--prompt", "- {text}", "--env_file", env]
    result = CliRunner().invoke(batch_options(keep), [str(a) for a in [*jobs, *flags]])
    assert result.exit_code == 0, result.output
    [(batches, overrides)] = calls
    assert [(file, [run.seed for run in runs]) for file, runs in batches] == [
        (jobs[0], [1, 2]),
        (jobs[1], [0]),
    ]
    for file, runs in batches:
        for run in runs:
            again = launcher.run(file, *overrides, f"--seeds={run.seed}")
            assert again.content() == run.content() | {"seeds": [run.seed]}
            assert again.job.data.max_samples == 9


@pytest.mark.parametrize(
    ("flag", "shows"),
    [("--help", ("--learning_rate", "--lora_r", "--show_config", "--seeds ", "--help_all")),
     ("--help_all", ("--learning_rate", "--head [linear|mlp|label_scoring]", "--seed ",
                     "--bf16 [true|false]", "--adam_beta2", "--vera_dropout"))],
)  # fmt: skip
def test_help_shows_flags_and_imports_no_heavy_library(flag, shows):
    code = (
        "import sys; from textassay.config.flags import run_options\n"
        f"run_options('lora')(lambda run: None).main(['{flag}'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'peft', 'pyarrow', 'datasets', 'pydantic'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for text in shows:
        assert text in done.stdout


def jobs_of(*arguments):
    """(what is named, the job, its seeds) of each job that train.sh would carry out."""
    taken = []

    def carry_out(runs, overrides):
        """Carry something out."""
        taken.extend(runs)

    result = CliRunner().invoke(batch_options(carry_out), [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return [(named, runs[0].job, [run.seed for run in runs]) for named, runs in taken]


def test_data_in_the_place_of_a_job_is_trained_on_with_three_seeds(write):
    data = write("my.csv", "text,label\na,b\n")
    ((named, job, seeds),) = jobs_of(data)
    assert (named, job.name, seeds) == (data, "my", [0, 42, 123])
    assert job.data.path == str(data) and job.data.labels is None
    assert (job.launcher, job.method.name) == ("full", "full")
    for flags in (["--method", "lora"], ["--use_lora"], ["--model_name_or_path", "bert"]):
        ((_, job, _),) = jobs_of(data, *flags)
        assert (job.launcher, job.method.name) == ("lora", "lora"), flags
    ((_, job, seeds),) = jobs_of(data.parent, "--seeds", "7")
    assert (job.data.path, seeds) == (str(data.parent), [7])


@pytest.mark.parametrize("flag", ["--data_path", "--dataset_name", "--data_name", "--train_file"])
def test_data_named_by_a_flag_is_not_trained_on_as_the_quickstarts(flag):
    ((named, job, seeds),) = jobs_of(flag, "reviews.csv")
    assert (named, job.name, seeds) == (None, "reviews", [0, 42, 123])
    assert job.model.max_seq_length == 128, "nothing is the quickstart's"


def test_without_data_and_job_it_is_the_quickstart():
    ((named, job, _),) = jobs_of("--max_steps", "3")
    assert named.name == "quickstart.yaml" and job.name == "quickstart"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--num_epochs", "2", "--num_train_epochs", "3"), "--num_epochs"),
        (("--use_lora", "--method", "ia3"), "--use_lora both set method.name"),
        (("--seed", "1", "--seeds", "2"), "both set seeds"),
        (("--use_qlora", "--load_in_4bit", "false"), "both set model.load_in_4bit"),
    ],
)
def test_two_flags_that_say_two_things_of_one_setting_are_refused(given, said, launcher):
    result = launcher.call(*given)
    assert result.exit_code == 2 and said in result.output
    assert "give one of them" in result.output


def test_two_flags_that_agree_are_one(launcher):
    assert launcher.call("--num_epochs", "2", "--num_train_epochs", "2").exit_code == 0


@pytest.mark.parametrize("script", ["clean", "doctor", "evaluate", "predict", "verify"])
def test_every_command_knows_the_users_home(script, monkeypatch) -> None:
    """In --output=~/x no shell knows that ~ is the user's home."""
    monkeypatch.setenv("HOME", "/somewhere")
    command = importlib.import_module(f"scripts.{script}").main
    paths = [one for one in command.params if isinstance(one.type, click.Path)]
    assert paths and all(isinstance(one.type, UserPath) for one in paths)
    assert paths[0].type.convert("~/x", None, None) == Path("/somewhere/x")
