"""No command follows a link out of what a stranger has made, and the doctor names it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result
from tests.commands_for_tests import go_offline, script
from tests.stored_runs_for_tests import Place, make_place

from textassay import Classifier
from textassay.artifacts.hallmark import FILE, check_files, read_hallmark, restamp, stamp
from textassay.artifacts.kinds import load_artifact
from textassay.artifacts.merging import publish_merged
from textassay.artifacts.zero.checkpoint import open_checkpoint
from textassay.artifacts.zero.consolidate import plan_consolidation
from textassay.artifacts.zero.publish import facts_beside
from textassay.config.runs import Run
from textassay.config.schema import DistillationSection, Job
from textassay.errors import GateError
from textassay.files import write_json
from textassay.models.source import find_model
from textassay.serving.metrics import Metrics
from textassay.serving.models import load_models
from textassay.serving.places import Place as ServedPlace
from textassay.serving.settings import Settings
from textassay.training.checkpoints import find_checkpoint, mark_complete, take_along
from textassay.training.final import publish_extras
from textassay.training.teacher import find_teacher

SECRET = "PRIVATE KEY of the user"
GATE = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two stamped LoRA runs on one base."""
    return make_place(tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("caches"))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go_offline(monkeypatch, tmp_path / "caches")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder of the user's, beside what the stranger has sent."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "id_rsa").write_text(SECRET)
    return tmp_path / "secret"


@pytest.fixture
def run(place: Place, tmp_path: Path, secret: Path) -> Path:
    """A copy of the first run, where nothing is linked yet."""
    folder = Path(shutil.copytree(place.a, tmp_path / "theirs"))
    write_json(folder / "finished.json", {})
    return folder


def link_a_folder(model: Path) -> None:
    (model / "assets").symlink_to("../../secret")


def link_a_file(model: Path) -> None:
    (model / "chat_template.jinja").symlink_to("../../secret/id_rsa")


def link_the_tokenizer(model: Path) -> None:
    shutil.move(model / "tokenizer.json", model.parent.parent / "secret" / "tokenizer.json")
    (model / "tokenizer.json").symlink_to("../../secret/tokenizer.json")


def link_the_weights(model: Path) -> None:
    weights = model / "adapter_model.safetensors"
    shutil.move(weights, model.parent.parent / "secret" / weights.name)
    weights.symlink_to(f"../../secret/{weights.name}")


def link_the_hallmark(model: Path) -> None:
    shutil.move(model / FILE, model.parent.parent / "secret" / FILE)
    (model / FILE).symlink_to(f"../../secret/{FILE}")


def unstamped(change: Callable[[Path], None]) -> Callable[[Path], None]:
    def change_both(model: Path) -> None:
        change(model)
        (model / FILE).unlink()

    return change_both


CHANGES = {
    "a folder": link_a_folder,
    "a file": link_a_file,
    "the tokenizer": link_the_tokenizer,
    "the weights": link_the_weights,
    "the hallmark": link_the_hallmark,
    "a file of an artifact without a hallmark": unstamped(link_a_file),
    "weights without a hallmark": unstamped(link_the_weights),
}
COMMANDS = {
    "predict": ["--text", "a"],
    "export": ["--to", "onnx"],
    "evaluate": [],
    "compare": [],
    "prune": [],
}


def assert_refused(result: Result, says: str) -> None:
    """The command ended with the reason, whatever it had said before."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == GATE and says in result.stderr, result.output
    assert "Traceback" not in result.output


def out_of_reach(tmp_path: Path) -> None:
    """What was secret is nowhere but where it was."""
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink() and "secret" not in path.parts:
            assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_commands_refuse_it_and_the_doctor_names_it(
    change: Callable[[Path], None], run: Path, place: Place, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    change(run / "model")
    for name, flags in COMMANDS.items():
        for named in (run, run / "model"):
            others = [place.b] if name == "compare" else []
            assert_refused(script(name)(named, *others, *flags), "link")
    said = script("doctor")(run)
    assert said.exit_code == GATE
    assert "is a link to" in said.stdout and "Nothing in it was read" in said.stdout
    assert script("verify")(run).exit_code == GATE
    out_of_reach(tmp_path)


@pytest.mark.parametrize("change", [link_a_folder, unstamped(link_a_file)])
def test_python_refuses_it_too(
    change: Callable[[Path], None], run: Path, place: Place, tmp_path: Path
) -> None:
    model = run / "model"
    change(model)
    served = Settings(models=(("a", str(model)),), host="", port=0)
    doors: list[Callable[[], object]] = [
        lambda: Classifier.load(model),
        lambda: load_artifact(model),
        lambda: publish_merged(model, tmp_path / "merged", texts=["a"]),
        lambda: find_teacher(DistillationSection(teacher=str(run))),
        lambda: find_teacher(DistillationSection(teacher=str(model))),
        lambda: load_models(served, [ServedPlace("a", str(model))], Metrics()),
        lambda: stamp(model, load_artifact(place.a / "model"), [], {}, {}, {}, {}),
        lambda: restamp(model, place.a / "model", load_artifact(place.a / "model")),
    ]
    for enter in doors:
        with pytest.raises(GateError, match="is a link to"):
            enter()
    assert not (tmp_path / "merged").exists()


def test_a_verification_counts_links_as_added_files(run: Path) -> None:
    model = run / "model"
    hallmark = read_hallmark(model)
    assert hallmark is not None
    check_files(model, hallmark)
    for name, target in (("assets", "../../secret"), ("more", "."), ("gone", "nowhere")):
        (model / name).symlink_to(target)
        with pytest.raises(GateError, match=f"{name} was added after it was stamped, and is a li"):
            check_files(model, hallmark)
        (model / name).unlink()
    (model / "copy.json").symlink_to("config.json")  # a file like any other
    with pytest.raises(GateError, match=r"copy\.json was added after it was stamped; take it out"):
        check_files(model, hallmark)
    (model / "copy.json").unlink()
    link_the_tokenizer(model)
    with pytest.raises(GateError, match=r"tokenizer\.json was replaced by a link"):
        check_files(model, hallmark)


@pytest.mark.parametrize("name", ["model", "config.yaml", "provenance.json", "train_results.json"])
def test_a_run_does_not_lead_out_of_itself(
    name: str, run: Path, tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if (run / name).exists():
        shutil.move(run / name, secret / name)
    else:
        (secret / name).write_text("{}")
    (run / name).symlink_to(f"../secret/{name}")
    for command, flags in COMMANDS.items():
        others = [run] if command == "compare" else []
        assert_refused(script(command)(run, *others, *flags), f"{name} is a link to")
    assert f"{name} is a link to" in script("doctor")(run).stdout


def test_links_that_users_make_go_on_working(
    run: Path, tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that is named, seeds on another disk, checkpoints moved away, files of their own.

    An artifact elsewhere is named where it lies.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "seed-0").symlink_to(run)
    (run / "checkpoint-5").symlink_to(secret)
    (run / "notes").symlink_to(secret)
    predict, flags = script("predict"), ("--text", "a good film")
    for named in ("job/seed-0", "job/seed-0/model"):
        done = predict(named, *flags)
        assert done.exit_code == 0, done.output
    shutil.move(run / "model", tmp_path / "elsewhere")
    (tmp_path / "named").symlink_to(tmp_path / "elsewhere")
    assert predict("named", *flags).exit_code == 0
    assert script("verify")("named").exit_code == 0


def test_an_artifact_in_the_hubs_cache_is_whole(run: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--me--mine" / "snapshots" / "abc"
    blobs = snapshot.parent.parent / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted((run / "model").iterdir())):
        shutil.move(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert Classifier.load(snapshot).predict("a good film")["label"]
    assert script("verify")(snapshot).exit_code == 0
    assert "is a link" not in script("doctor")(snapshot).output


def test_a_base_with_links_is_refused(place: Place, tmp_path: Path, secret: Path) -> None:
    base = Path(shutil.copytree(place.base, tmp_path / "base"))
    (base / "chat_template.jinja").symlink_to("../secret/id_rsa")
    with pytest.raises(GateError, match=r"chat_template\.jinja is a link to"):
        find_model(str(base))
    done = script("train_lora")(
        "--model_name_or_path", base, "--data_path", place.data, "--output_dir", tmp_path / "out"
    )
    assert_refused(done, "chat_template.jinja is a link to")
    assert not (tmp_path / "out").exists()


def test_what_a_run_publishes_again_was_stamped(run: Path, tmp_path: Path, place: Place) -> None:
    """Measuring and publishing a finished run again must not stamp what somebody put there."""
    job = Job.model_validate({"artifact": {"final_model_dir": str(tmp_path / "final")}})
    (run / "model" / "notes.txt").write_text("of somebody's")
    with pytest.raises(GateError, match=r"notes\.txt was added"):
        publish_extras(Run(job, 0, run))
    (run / "model" / "notes.txt").unlink()
    link_a_folder(run / "model")
    with pytest.raises(GateError, match="link"):
        publish_extras(Run(job, 0, run))
    assert not (tmp_path / "final").exists()


def checkpoint(folder: Path, name: str = "checkpoint-5") -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "weights").write_text("1234")
    mark_complete(path, "somebody's")
    return path


def test_a_checkpoint_that_is_resumed_holds_what_it_says(tmp_path: Path, secret: Path) -> None:
    theirs = checkpoint(tmp_path / "theirs")
    (theirs / "surplus.txt").write_text("not in the marker")
    taken = take_along(theirs, tmp_path / "run")
    assert {path.name for path in taken.iterdir()} == {"weights", "complete.json"}
    for name in ("../../secret/id_rsa", str(secret / "id_rsa")):
        size = len(SECRET)
        write_json(theirs / "complete.json", {"run": "somebody's", "files": {name: size}})
        with pytest.raises(GateError, match="which is not in the checkpoint"):
            take_along(theirs, tmp_path / "another")
    assert not (tmp_path / "another").exists() or not any((tmp_path / "another").iterdir())
    (theirs / "trainer_state.json").symlink_to("../../secret/id_rsa")
    for resume in (str(theirs), "auto"):
        with pytest.raises(GateError, match=r"trainer_state\.json is a link"):
            find_checkpoint(Run(Job(), 0, tmp_path / "theirs", resume=resume), "somebody's")
    with pytest.raises(GateError, match=r"trainer_state\.json is a link"):
        take_along(theirs, tmp_path / "another")


@pytest.fixture
def zero(tmp_path: Path, secret: Path) -> Path:
    """The frame of a ZeRO checkpoint in a run; nobody gets as far as its numbers."""
    step = tmp_path / "run" / "checkpoint-5" / "global_step5"
    step.mkdir(parents=True)
    (step / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_text("")
    (step.parent / "latest").write_text("global_step5")
    (step.parent / "config.json").write_text("{}")
    return step


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("global_step5/zero_pp_rank_0_mp_rank_00_model_states.pt", "../../../secret/id_rsa"),
        ("latest", "../../secret/id_rsa"),
        ("config.json", "../../secret/id_rsa"),
        ("chat_template.jinja", "../../secret/id_rsa"),
        ("hallmark_facts.json", "../../secret/id_rsa"),
        ("../tokenizer.json", "../secret/id_rsa"),
    ],
)
def test_a_zero_checkpoint_does_not_lead_out(link: str, target: str, zero: Path) -> None:
    (zero.parent / link).unlink(missing_ok=True)
    (zero.parent / link).symlink_to(target)
    opened = SimpleNamespace(folder=zero, holds_adapter=False, trained=[], frozen={})

    def consolidate() -> None:
        if link == "latest":
            open_checkpoint(zero.parent)
        if link.startswith("global_step5"):
            open_checkpoint(zero)
        facts_beside(zero)
        plan_consolidation(opened, None)

    with pytest.raises(GateError, match="is a link to"):
        consolidate()
    assert "is a link to" in script("doctor")(zero.parent).stdout


def test_a_folder_of_checkpoints_does_not_lead_out(zero: Path, secret: Path) -> None:
    shutil.move(zero.parent, secret / "checkpoint-7")
    (zero.parent.parent / "checkpoint-7").symlink_to("../secret/checkpoint-7")
    run = zero.parent.parent
    with pytest.raises(GateError, match="checkpoint-7 is a link to"):
        open_checkpoint(run)
    (secret / "checkpoint-7" / "latest").unlink()
    step = secret / "checkpoint-7" / "global_step5"
    shutil.move(step, secret / "global_step5")
    step.symlink_to("../global_step5")
    with pytest.raises(GateError, match="global_step5 is a link to"):
        open_checkpoint(secret / "checkpoint-7")
