"""What a run leaves beside its artifact when asked to: a merged model, a directory to ship."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from textassay.artifacts.company import COMPANY, WEIGHTS_AND_RECORDS, copy_known
from textassay.artifacts.hallmark import (
    FILE,
    check_files,
    read_hallmark,
    restamp,
    verify_in_fresh_process,
)
from textassay.artifacts.identify import ADAPTER
from textassay.artifacts.kinds import find_kind, load_artifact
from textassay.artifacts.merging import publish_merged
from textassay.artifacts.weights import write_bin
from textassay.config.runs import NOBODYS, Run, remove, stored_config
from textassay.console import say, some, warn
from textassay.errors import UsageError
from textassay.files import replacing, write_json, write_text
from textassay.models.classifier import load_tokenizer

METHOD_CONFIG = "combined_finetune_config.json"
SETTING = "artifact.final_model_dir"
# Where files are until all of them are there, in a directory that cannot be renamed.
ARRIVING = ".arriving"


def refuse_final_directory(run: Run) -> None:
    """UsageError where `final_model_dir` is the run's or holds files that may not be replaced."""
    named = run.job.artifact.final_model_dir
    if named is None:
        return
    folder, ours = Path(named), resolved(Path(named))
    theirs = run.path.resolve()
    if theirs.is_relative_to(ours) or ours.is_relative_to(theirs):
        raise UsageError(f"{SETTING}: {folder} would replace the run in {run.path}; name another.")
    for place in (ours, *ours.parents):
        if os.path.lexists(place) and not place.is_dir():
            raise UsageError(f"{SETTING}: {place} is a file; name another directory.")
    # Replaced is what a run has put there, if forced or the same run, and nothing of others: the
    # older trainer writes a file of the same name, but no hallmark.
    hallmark = _hallmark_of_run(ours)
    others = _of_others(ours, hallmark)
    if others and hallmark:
        raise UsageError(
            f"{SETTING}: {folder} holds {some(others)}, which no run has written; move that, or "
            "name another directory."
        )
    own = stored_config(run.path).get("fingerprint")
    is_same = hallmark and own and hallmark["made_by"].get("config") == own
    if others or (hallmark and not run.force and not is_same):
        forced = ", or use --force to replace what a run has put there" if hallmark else ""
        raise UsageError(f"{SETTING}: {folder} is not empty; name another one{forced}.")


def resolved(folder: Path) -> Path:
    """Where a directory is, links followed. UsageError where they lead in a circle."""
    try:
        return folder.resolve()
    except (RuntimeError, OSError):
        raise UsageError(f"{SETTING}: {folder} is a link to itself; name another one.") from None


def _hallmark_of_run(folder: Path) -> dict[str, Any] | None:
    """The hallmark of what a run has put into a final directory."""
    return read_hallmark(folder) if (folder / METHOD_CONFIG).is_file() else None


def _of_others(folder: Path, hallmark: dict[str, Any] | None) -> list[str]:
    """The names in a final directory that no run has written there."""
    if not folder.is_dir():
        return []
    ours = {Path(name).parts[0] for name in hallmark["files"]} | {FILE} if hallmark else set()
    return sorted({path.name for path in folder.iterdir()} - ours - NOBODYS - {ARRIVING})


def publish_extras(run: Run) -> None:
    """The merged model and the flat directory, where the job wants them."""
    wanted = run.job.artifact
    if not wanted.wants_merged():
        return
    hallmark = read_hallmark(run.model_dir)
    if hallmark:  # what is stamped below must be what was stamped
        check_files(run.model_dir, hallmark)
    merged = run.model_dir
    if find_kind(run.model_dir) == ADAPTER:
        merged = run.path / "merged"
        difference = publish_merged(run.model_dir, merged)
        say(f"merged     {merged} (logits within {difference:.1e} of the adapter's)")
    if wanted.final_model_dir:
        _publish_flat(run, merged, resolved(Path(wanted.final_model_dir)))
        say(f"final      {wanted.final_model_dir}")


def _publish_flat(run: Run, merged: Path, folder: Path) -> None:
    """Merged model, tokenizer, labels and method in one directory, and the adapter in `adapter/`.

    Not beside the merged model: transformers would find it there and apply it a second time.
    """
    with _replacing_directory(folder) as scratch:
        copy_known(merged, scratch, (*COMPANY, *WEIGHTS_AND_RECORDS))
        write_json(scratch / METHOD_CONFIG, _method_config(run))
        _write_vocabulary(load_tokenizer(str(scratch)), scratch)
        made = {scratch: merged}
        if merged != run.model_dir:
            copy_known(run.model_dir, scratch / ADAPTER, (*COMPANY, *WEIGHTS_AND_RECORDS))
            made = {scratch / ADAPTER: run.model_dir, **made}
        for part, source in made.items():
            if run.job.artifact.save_bin:
                write_bin(part)
            restamp(part, source, load_artifact(part))
            verify_in_fresh_process(part)


@contextmanager
def _replacing_directory(folder: Path) -> Iterator[Path]:
    """`replacing` for a directory that may be a mount point or the current one.

    Neither can be renamed. There the new files arrive in a hidden directory and are moved out of it
    when all are there, the hallmark last: until then the old one says that files have changed.
    What others have put there meanwhile stays, and is named.
    """
    stays = folder.is_dir() and (folder.is_mount() or folder.samefile("."))
    if not stays:
        with replacing(folder) as scratch:
            yield scratch
        return
    arriving = folder / ARRIVING
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir()
    try:
        yield arriving / "final"
        hallmark = _hallmark_of_run(folder)
        others = _of_others(folder, hallmark)
        for path in folder.iterdir():
            if path.name not in {*others, *NOBODYS, ARRIVING, FILE, METHOD_CONFIG}:
                remove(path)
        for path in sorted((arriving / "final").iterdir(), key=lambda path: path.name == FILE):
            path.replace(folder / path.name)
        if others:
            warn(f"{folder}: kept {some(others)}, which no run has written")
    except OSError as error:
        error.filename = error.filename or str(folder)  # a full disk names no file
        raise
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _method_config(run: Run) -> dict[str, Any]:
    """How the adapter was tuned, in one file."""
    job = run.job
    return {
        "base_model": job.model.model_name_or_path,
        "max_length": job.model.max_seq_length,
        "method": {"name": job.method.name, **job.method.settings()},
        "learning_rate": job.training.learning_rate,
        "num_train_epochs": job.training.num_train_epochs,
        "per_device_train_batch_size": job.training.per_device_train_batch_size,
        "per_device_eval_batch_size": job.training.per_device_eval_batch_size,
        "seed": run.seed,
    }


def _write_vocabulary(tokenizer: Any, folder: Path) -> None:
    """`vocab.txt`, one token a line in the order of their ids, where the tokenizer is WordPiece."""
    if type(tokenizer.backend_tokenizer.model).__name__ == "WordPiece":
        tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        write_text(folder / "vocab.txt", "".join(f"{token}\n" for token, _ in tokens))
