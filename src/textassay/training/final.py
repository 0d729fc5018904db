"""What a run leaves beside its artifact when asked to: a merged model, a directory to ship."""

import shutil
from pathlib import Path
from typing import Any

from textassay.artifacts.hallmark import FILE, read_hallmark, restamp, verify_in_fresh_process
from textassay.artifacts.identify import ADAPTER
from textassay.artifacts.kinds import find_kind, load_artifact
from textassay.artifacts.merging import publish_merged
from textassay.artifacts.weights import write_bin
from textassay.config.runs import Run, stored_config
from textassay.console import say
from textassay.errors import UsageError
from textassay.files import replacing, write_json, write_text
from textassay.models.classifier import load_tokenizer

METHOD_CONFIG = "combined_finetune_config.json"


def refuse_final_directory(run: Run) -> None:
    """UsageError where `final_model_dir` is the run's or holds files that may not be replaced."""
    named = run.job.artifact.final_model_dir
    if named is None:
        return
    folder = Path(named)
    ours, theirs = folder.resolve(), run.path.resolve()
    if theirs.is_relative_to(ours) or ours.is_relative_to(theirs):
        raise UsageError(
            f"artifact.final_model_dir: {folder} would replace the run in {run.path}; name another."
        )
    # Replaced is what a run has put there, if forced or the same run, and nothing of others: the
    # older trainer writes a file of the same name, but no hallmark.
    hallmark = read_hallmark(folder) if (folder / METHOD_CONFIG).is_file() else None
    stamped = hallmark["made_by"].get("config") if hallmark else None
    own = stored_config(run.path).get("fingerprint")
    if hallmark and (run.force or (own and stamped == own)):
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"artifact.final_model_dir: {folder} is not empty; name another one, or use --force to "
            "replace what a run has put there."
        )


def publish_extras(run: Run) -> None:
    """The merged model and the flat directory, where the job wants them."""
    wanted = run.job.artifact
    if not wanted.wants_merged():
        return
    merged = run.model_dir
    if find_kind(run.model_dir) == ADAPTER:
        merged = run.path / "merged"
        difference = publish_merged(run.model_dir, merged)
        say(f"merged     {merged} (logits within {difference:.1e} of the adapter's)")
    if wanted.final_model_dir:
        _publish_flat(run, merged, Path(wanted.final_model_dir))
        say(f"final      {wanted.final_model_dir}")


def _publish_flat(run: Run, merged: Path, folder: Path) -> None:
    """Merged model, tokenizer, labels and method in one directory, and the adapter in `adapter/`.

    Not beside the merged model: transformers would find it there and apply it a second time.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as scratch:
        shutil.copytree(merged, scratch)
        write_json(scratch / METHOD_CONFIG, _method_config(run))
        _write_vocabulary(load_tokenizer(str(scratch)), scratch)
        made = {scratch: merged}
        if merged != run.model_dir:
            shutil.copytree(run.model_dir, scratch / ADAPTER)
            made = {scratch / ADAPTER: run.model_dir, **made}
        for part, source in made.items():
            if run.job.artifact.save_bin:
                write_bin(part)
            (part / FILE).unlink()
            restamp(part, source, load_artifact(part))
            verify_in_fresh_process(part)


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
