"""Prune a classifier: fewer heads and units, a short training to recover, the figures beside.

Everything is one run in one directory: `pruned/` is the artifact before recovery and the base of
the run, `model/` the artifact after it, `pruning.json` what became of size, speed and scores. So a
pruning that was killed goes on where it was, and whatever reads a run reads this one.
"""

import copy
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from textassay.artifacts.hallmark import FILE, read_hallmark, restamp, verify_in_fresh_process
from textassay.artifacts.identify import ADAPTER, MODEL
from textassay.artifacts.kinds import Loaded, load_artifact
from textassay.artifacts.merging import merged_classifier
from textassay.config.runs import preparing, refuse_directory
from textassay.console import counted, say
from textassay.data.load import Dataset
from textassay.data.split import sample
from textassay.errors import DataError, GateError, UsageError
from textassay.evaluation.contenders import Contender, load_contender
from textassay.evaluation.evaluate import evaluate, stamped_figures
from textassay.evaluation.markdown import plain_markdown
from textassay.evaluation.stored_run import StoredRun, read_rows_of
from textassay.files import replacing, sha256_file, write_json, write_text
from textassay.models.device import find_device
from textassay.models.pruning import Sizes, keep_heads, keep_units, sizes_of
from textassay.models.source import SETTINGS_KEY, Source
from textassay.pruning.importance import (
    Importance,
    closed,
    gated,
    measure_importance,
    most_important,
)
from textassay.pruning.outcome import ORIGINAL, RECOVERED, Outcome, measure_outcome
from textassay.pruning.recovery import Recovery, recovery_run, usual_directory
from textassay.training.publish import write_model
from textassay.training.run import run_training

PRUNED = "pruned"
RECORD = "pruning.json"
# Each takes a backward pass, and nothing but their order is asked for.
IMPORTANCE_ROWS = 1024
CHECK_ROWS = 64
# A sum without terms instead of with terms that are 0: in fp32 the sixth digit differs.
TOLERANCE = 1e-4
# Widths that are multiples of 8 are what vector units and tensor cores multiply without waste.
UNITS_IN_STEPS_OF = 8
CARD = """\
# {name}, pruned

{heads} of {heads_before} attention heads and {units} of {units_before} feed-forward units are left
in each layer. Nothing was trained after they were cut out; `hallmark.json` names what this was made
from. Load it with `textassay.Classifier`.
"""


@dataclass(frozen=True)
class Request:
    """What to prune; `heads` and `ffn` are the shares of each layer that are taken away."""

    where: Path
    heads: float
    ffn: float
    recovery: Recovery
    output_dir: Path | None = None
    base: str | None = None
    device: str = "auto"
    force: bool = False


@dataclass(frozen=True)
class Original:
    """The artifact that is pruned, as one plain model, with its run and its rows.

    `base` is an adapter's.
    """

    folder: Path
    name: str
    loaded: Loaded
    base: Source | None
    run: StoredRun
    dataset: Dataset


def prune(request: Request) -> Outcome:
    """Measure, cut, verify, recover, and compare on test rows.

    Raises UsageError, DataError or GateError; nothing is written before the request is known to be
    possible.
    """
    refuse_shares(request.heads, request.ffn)
    original = open_original(request)
    before = sizes_of(original.loaded.model)
    left = what_is_left(before, request.heads, request.ffn)
    device = find_device(request.device)
    out = request.output_dir or usual_directory(original.run, request.recovery)
    _refuse_near(out, original.folder)
    run = recovery_run(original.run, out, out / PRUNED, request.recovery, request.device)
    run = replace(run, force=request.force)
    refuse_directory(run)
    if (out / PRUNED).is_dir() and not request.force:
        _refuse_other_pruning(original, out / PRUNED, left)
    say(f"pruning    {original.name}: {left.heads} of {counted(before.heads, 'head')} and "
        f"{left.units} of "
        f"{before.units} units a layer are kept")  # fmt: skip
    with nullcontext() if run.is_done() else preparing(run):
        _make_pruned(original, out / PRUNED, left, device)
    run_training(replace(run, force=False))
    models = {
        ORIGINAL: original.loaded,
        "pruned": load_artifact(out / PRUNED),
        RECOVERED: load_artifact(out / "model"),
    }
    places = {ORIGINAL: original.folder, "pruned": out / PRUNED, RECOVERED: out / "model"}
    outcome = measure_outcome(
        models,
        places,
        original.base,
        original.dataset,
        original.run.evaluation,
        original.run.eval_batch,
        device,
    )
    write_json(out / RECORD, {"heads": request.heads, "ffn": request.ffn, **outcome.to_json()})
    return outcome


def open_original(request: Request) -> Original:
    """The artifact in a run, held to its hallmark, an adapter merged; and the rows of its run."""
    contender = load_contender(request.where, request.base)
    folder, run = contender.folder, contender.run
    if contender.loaded.kind not in (ADAPTER, MODEL):
        raise UsageError(
            f"{folder}: is {contender.loaded.kind}, which is made of a model; prune that model and "
            "export it again."
        )
    if contender.hallmark is None:
        raise GateError(f"{folder}: carries no hallmark, so there is nothing to hold a copy to.")
    if run is None:
        raise UsageError(
            f"{folder}: stands in no run (config.yaml is not beside it), so the rows to measure on "
            "and to train on are not known; name a run."
        )
    dataset = read_rows_of(run, contender.fingerprint)
    if contender.fingerprint != dataset.whole_fingerprint():
        raise DataError(
            f"{dataset.name}: is not what {folder} was trained on (its fingerprint differs), so "
            "its test rows may have been trained on; restore the data."
        )
    loaded = _as_one_model(contender, request.base)
    sizes_of(loaded.model)  # refuses another structure
    return Original(folder, contender.name, loaded, contender.loaded.base, run, dataset)


def _as_one_model(contender: Contender, base: str | None) -> Loaded:
    if contender.loaded.kind == MODEL:
        return contender.loaded
    model = merged_classifier(contender.folder, base)
    return replace(contender.loaded, kind=MODEL, model=model, base=None)


def refuse_shares(heads: float, ffn: float) -> None:
    """UsageError for shares that are none."""
    for name, share in (("heads", heads), ("ffn", ffn)):
        if not 0 <= share < 1:
            raise UsageError(f"--{name} {share}: is the share to take away, from 0 to below 1.")


def what_is_left(sizes: Sizes, heads: float, ffn: float) -> Sizes:
    """The sizes when these shares of heads and units are taken away, rounded.

    Heads that share a key and value go together. UsageError where that is all, or nothing.
    """
    groups = round(sizes.groups * (1 - heads))
    units = sizes.units
    if ffn:
        units = round(units * (1 - ffn) / UNITS_IN_STEPS_OF) * UNITS_IN_STEPS_OF
    for name, share, few, many in (
        ("heads", heads, groups, sizes.groups), ("ffn", ffn, min(units, 1), sizes.units),
    ):  # fmt: skip
        if few < 1:
            what = "heads" if name == "heads" and sizes.grouped == 1 else "groups of heads"
            raise UsageError(
                f"--{name} {share}: would leave none of a layer's {many} "
                f"{'units' if name == 'ffn' else what}; take less away."
            )
    left = replace(sizes, heads=groups * sizes.grouped, units=min(units, sizes.units))
    if left == sizes:
        raise UsageError(
            f"--heads {heads} --ffn {ffn}: takes nothing away from "
            f"{counted(sizes.groups, 'head')} (or groups "
            f"of them) and {sizes.units} units a layer; name larger shares."
        )
    return left


def _make_pruned(original: Original, folder: Path, left: Sizes, device: torch.device) -> None:
    """The pruned artifact in `folder`, unless an earlier attempt has made this very one."""
    if folder.is_dir():
        say(f"pruned     {folder} (as it was made before)")
        return
    validation = sample(original.dataset.splits["validation"], IMPORTANCE_ROWS, 0)
    importance = measure_importance(
        original.loaded, validation["text"].to_pylist(), validation["label"].to_pylist(), device
    )
    say(f"importance of heads and units: on {importance.rows:,} validation rows")
    publish_pruned(original, folder, left, importance, device)
    say(f"pruned     {folder}")


def publish_pruned(
    original: Original, folder: Path, left: Sizes, importance: Importance, device: torch.device
) -> None:
    """Cut, save, read back, hold to the original with closed gates, stamp, verify.

    GateError where the model that was read back computes something else; nothing is left then.
    """
    loaded, validation = original.loaded, original.dataset.splits["validation"]
    heads = most_important(importance.heads, left.groups)
    units = most_important(importance.units, left.units)
    before = sizes_of(loaded.model)
    ids = loaded.ids(sample(validation, CHECK_ROWS, 0)["text"].to_pylist())
    with gated(loaded.model, closed(heads, before.groups), closed(units, before.units)):
        wanted = loaded.logits(ids, device="cpu")
    model = copy.deepcopy(loaded.model)
    keep_heads(model, heads)
    keep_units(model, units)
    # A temperature fits the logits that it was found for.
    getattr(model.config, SETTINGS_KEY).pop("temperature", None)
    card = CARD.format(
        name=plain_markdown(original.name), heads=left.heads, heads_before=before.heads,
        units=left.units, units_before=before.units,
    )  # fmt: skip
    with replacing(folder) as scratch:
        write_model(scratch, model, loaded.tokenizer, loaded.labels)
        write_text(scratch / "README.md", card)
        again = load_artifact(scratch)
        _refuse_other_logits(folder, again.logits(ids, device="cpu"), wanted)
        settings, batch = original.run.evaluation, original.run.eval_batch
        scores = evaluate(again, "validation", validation, settings, batch, device).scores
        restamp(scratch, original.folder, again, stamped_figures(len(validation), scores))
        verify_in_fresh_process(scratch)


def _refuse_other_logits(folder: Path, found: np.ndarray, wanted: np.ndarray) -> None:
    difference = float(np.abs(found - wanted).max(initial=0.0))
    allowed = TOLERANCE * max(1.0, float(np.abs(wanted).max(initial=0.0)))
    if not difference <= allowed:
        raise GateError(
            f"{folder}: the logits of {len(wanted)} validation rows differ by {difference:.4g} "
            "from the original's with these heads and units switched off (at most "
            f"{allowed:.2g} is allowed); nothing was saved."
        )


def _refuse_other_pruning(original: Original, folder: Path, left: Sizes) -> None:
    """UsageError unless `folder` holds what pruning the original by these shares gives."""
    hallmark = read_hallmark(folder)
    same = hallmark and hallmark["made_from"] == sha256_file(original.folder / FILE)
    if not same or sizes_of(load_artifact(folder).model) != left:
        raise UsageError(
            f"{folder}: was pruned from another artifact, or by other shares; name another "
            "--output_dir, or replace it with --force."
        )


def _refuse_near(out: Path, artifact: Path) -> None:
    """UsageError where the pruning would lie in the artifact, or replace it."""
    ours, theirs = out.resolve(), artifact.resolve()
    if theirs.is_relative_to(ours) or ours.is_relative_to(theirs):
        raise UsageError(
            f"{out}: holds what is to be pruned, or lies in it; name another --output_dir."
        )
