"""The standalone evaluator: whatever can predict, on any rows, with the files that a run has."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textassay.artifacts.hallmark import FILE
from textassay.artifacts.identify import RUN, ZERO, Identity, identify
from textassay.artifacts.zero.consolidate import consolidate
from textassay.artifacts.zero.publish import facts_beside, plan_artifact, refuse_other_base
from textassay.config.runs import CONFIG, is_run, refuse_links_in
from textassay.config.schema import DataSection, EvaluationSection
from textassay.console import counted, say, warn
from textassay.errors import DataError, TextassayError, UsageError
from textassay.evaluation.contenders import (
    Contender,
    Selection,
    load_contender,
    select_rows,
    training_notes,
)
from textassay.evaluation.evaluate import Baseline, Evaluation, compare_with_baselines, evaluate
from textassay.evaluation.folders import Request, refuse_folder, run_above, usual_folder
from textassay.evaluation.outputs import RESULTS, facts_of_run, write_tested
from textassay.evaluation.report import SWITCHED_OFF, Facts
from textassay.evaluation.stored_run import EVAL_BATCH, run_around
from textassay.files import cache_folder, read_object, sha256_file, sha256_files
from textassay.masking import mask
from textassay.models.device import describe_device, find_device
from textassay.models.source import find_model
from textassay.temporary import close_to_others, temporary_folder

UNCALIBRATED = (
    "A checkpoint is not calibrated; the artifact that a run makes of it is, so log_loss, ece and "
    "roc_auc may be others there."
)


@dataclass(frozen=True)
class Outcome:
    """What was found, and the folder that holds the files."""

    facts: Facts
    evaluation: Evaluation
    baselines: list[Baseline]
    folder: Path
    notes: list[str]


def evaluate_standalone(request: Request) -> Outcome | None:
    """Say what lies there, consolidate it if need be, load it strictly, predict, score, write.

    None where results are there and are to be kept. Raises UsageError, DataError or GateError, and
    nothing is written then.
    """
    path, identity = _find(request)
    folder = request.output_dir or usual_folder(path, identity, request)
    if request.skip_existing and not request.force and (folder / RESULTS).is_file():
        say(f"{folder / RESULTS} is there already; --force replaces it")
        return None
    refuse_folder(folder, path, identity, request)
    say(f"what       {identity.title}: {path}")
    device = find_device(request.device)
    say(f"device     {describe_device(device, 'fp32')}")
    with _loadable(identity, request) as loadable:
        contender = _load(loadable, path, identity, request)
        selection = _select(contender, request.data)
        say(f"rows       {selection.title}: {len(selection.table):,}")
        run = contender.run
        settings = run.evaluation if run else EvaluationSection()
        batch = request.batch_size or (run.eval_batch if run else EVAL_BATCH)
        found = evaluate(contender.loaded, "test", selection.table, settings, batch, device)
    strange = _strange_labels(selection, found)
    baselines: list[Baseline] = []
    notes = _notes(identity, request)
    if selection.train is not None and settings.baselines and not strange:
        baselines, unfitted = compare_with_baselines(found, selection.train)
        notes += unfitted
    facts = replace(
        _facts(path, identity, contender, selection, request, notes),
        trust=_trust(contender, selection, identity),
        without_baselines=_why_no_baselines(selection, settings, strange),
    )
    write_tested(folder, found, baselines, facts, _stamp(contender, path, identity))
    notes += _agreement(folder, path, identity, request)
    return Outcome(facts, found, baselines, folder, notes)


def _find(request: Request) -> tuple[Path, Identity]:
    """The directory and what it is; a name that is no directory is the hub's."""
    path = Path(request.where)
    if not path.exists():
        path = find_model(request.where).path
    runs = sorted(below.parent for below in path.glob(f"seed-*/{CONFIG}"))
    if runs:
        path = _run_of_job(path, runs, request.seed)
    if is_run(path):
        refuse_links_in(path)
    return path, identify(path)


def _run_of_job(job: Path, runs: list[Path], seed: int | None) -> Path:
    """The run of a job's folder that the seed names, or the only one."""
    wanted = [run for run in runs if seed is None or run.name == f"seed-{seed}"]
    if len(wanted) == 1:
        return wanted[0]
    names = ", ".join(run.name for run in runs)
    raise UsageError(f"{job}: holds the runs {names}; name one of them, or its --seed.")


@contextmanager
def _loadable(identity: Identity, request: Request) -> Iterator[Path]:
    """A directory that can be loaded: the artifact's own, or what a ZeRO checkpoint becomes."""
    if identity.kind != ZERO:
        yield identity.folder
        return
    plan = plan_artifact(identity.folder, request.base)
    say(f"holds      {plan.summary()}")
    files = [*sorted(plan.checkpoint.folder.glob("*_states.pt")), *plan.beside]
    key = sha256_files(files).removeprefix("sha256:")[:32]
    kept = cache_folder("consolidated") / key
    if kept.is_dir():
        say(f"weights    consolidated before: {kept}")
        yield kept
    elif request.keep_consolidated:
        consolidate(plan, kept)
        close_to_others(kept)
        say(f"weights    consolidated and kept: {kept}")
        yield kept
    else:
        with temporary_folder("consolidated") as scratch:
            consolidate(plan, scratch / "model")
            yield scratch / "model"


def _load(loadable: Path, path: Path, identity: Identity, request: Request) -> Contender:
    """The artifact in memory, with the run that it lies in, however deep."""
    contender = load_contender(loadable, request.base)
    if identity.kind == ZERO:
        facts = facts_beside(identity.folder)
        if facts:
            refuse_other_base(contender.loaded, facts)
        above = run_above(identity.folder.resolve())
        run = run_around(above / "model") if above else None
        contender = replace(contender, name=str(path), folder=path, run=run)
    if contender.hallmark is None:
        warn(f"{path}: carries no hallmark; nothing proves what it is")
    if request.max_length:
        loaded = replace(contender.loaded, max_length=request.max_length)
        contender = replace(contender, loaded=loaded)
    return contender


def _strange_labels(selection: Selection, found: Evaluation) -> list[str]:
    """Labels of the training rows that the model does not know."""
    if selection.train is None:
        return []
    return sorted(set(selection.train["label"].to_pylist()) - set(found.labels.names))


def _select(contender: Contender, data: DataSection | None) -> Selection:
    """The rows; other ones that cannot be read as they stand are read as those of the training.

    A catalog's data set may call its labels 0 and 1 where the model knows their names, and a file
    may have the columns that the run was told.
    """
    try:
        return select_rows(contender, data, None)
    except (DataError, UsageError) as as_it_stands:
        run = contender.run
        if data is None or data.name or run is None:
            raise
        told = {
            "name": run.data.name,
            "text_column": data.text_column or run.data.text_column,
            "label_column": data.label_column or run.data.label_column,
        }
        try:
            selection = select_rows(contender, data.model_copy(update=told), None)
        except TextassayError:
            raise as_it_stands from None
        say("read as    the rows that it was trained on")
        return selection


def _why_no_baselines(
    selection: Selection, settings: EvaluationSection, strange: Sequence[str]
) -> str:
    """The first half of the verdict where there are none."""
    if selection.train is None:
        return "There are no baselines, since a single file has no rows to train them on"
    if not settings.baselines:
        return SWITCHED_OFF
    if strange:
        return (
            "There are no baselines, since the training rows have labels that the model does not "
            f"know ({', '.join(strange)})"
        )
    return "No baseline could be fitted"


def _notes(identity: Identity, request: Request) -> list[str]:
    notes = [UNCALIBRATED] if identity.kind == ZERO else []
    if request.max_length:
        notes.append(f"Texts were cut to {request.max_length} tokens, as asked for.")
    return notes


def _trust(contender: Contender, selection: Selection, identity: Identity) -> list[str]:
    """How far the figures can be believed: what is proved, and whether rows were seen before."""
    if identity.kind == RUN and selection.fingerprint == contender.fingerprint:
        return []
    found = training_notes("the model", contender, selection)
    return [note[0].upper() + note[1:] for note in found]


def _facts(
    path: Path, identity: Identity, contender: Contender, selection: Selection, request: Request,
    notes: list[str],
) -> Facts:  # fmt: skip
    """Of a run on its own rows all that it has written down; else what can be seen."""
    if identity.kind == RUN and request.data is None and (path / "train_results.json").is_file():
        return facts_of_run(path, notes)
    hallmark = contender.hallmark or {}
    origin = {
        "base": contender.loaded.base.name if contender.loaded.base else None,
        "trained on": hallmark.get("data", {}).get("name"),
        "made by": hallmark.get("made_by", {}).get("command"),
        "hallmark": "yes" if contender.hallmark else "none",
    }
    return Facts(
        title=contender.name,
        subtitle=f"{identity.title} on {selection.title}",
        notes=[f"{selection.title}: {counted(len(selection.table), 'row')}", *notes],
        provenance={key: mask(str(value)) for key, value in origin.items() if value},
        calibration=_calibration(contender.loaded.temperature),
    )


def _calibration(temperature: float) -> str:
    if temperature == 1:
        return "no, the artifact has no temperature"
    return f"temperature {temperature:.4g}, as the artifact says"


def _stamp(contender: Contender, path: Path, identity: Identity) -> dict[str, Any]:
    """Which artifact the figures belong to: its hallmark's hash, or that it has none."""
    if contender.hallmark is None:
        return {"hallmark": None, "evaluated": f"{identity.kind} {path}"}
    return {"hallmark": sha256_file(contender.folder / FILE)}


def _agreement(folder: Path, path: Path, identity: Identity, request: Request) -> list[str]:
    """Whether a run's own figures on the same rows are these."""
    same = identity.kind == RUN and not request.data and not request.max_length
    if not same or folder.resolve() == path.resolve() or not (path / RESULTS).is_file():
        return []
    ours, own = (
        {k: v for k, v in read_object(place / RESULTS).items() if k.startswith("test_")}
        for place in (folder, path)
    )
    different = [name for name in own if own[name] != ours.get(name)]
    if different:
        name = different[0]
        return [f"{len(different)} figures differ from the run's own: {name} is {ours.get(name)} "
                f"here and {own[name]} there (another device, another version?)."]  # fmt: skip
    return ["Every figure is the run's own, to the last digit."]
