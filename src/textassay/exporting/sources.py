"""What is to be shipped: an artifact, held to its hallmark, as one plain model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from textassay.artifacts.hallmark import read_hallmark
from textassay.artifacts.identify import ADAPTER
from textassay.artifacts.kinds import Loaded
from textassay.artifacts.merging import merged_classifier
from textassay.console import warn
from textassay.errors import UsageError
from textassay.evaluation.contenders import load_contender
from textassay.evaluation.folders import run_above
from textassay.evaluation.stored_run import StoredRun, training_rows
from textassay.models.source import Source, find_model


@dataclass(frozen=True)
class Shipped:
    """An artifact on disk and in memory. `hallmark` is None for somebody else's."""

    folder: Path
    loaded: Loaded
    hallmark: dict[str, Any] | None
    base: str | None
    run: StoredRun | None = None

    def plain_model(self) -> Any:
        """One model of transformers, in fp32: an adapter is merged into its base."""
        if self.loaded.kind == ADAPTER:
            return merged_classifier(self.folder, self.base)
        return self.loaded.model.float().eval()

    def training_rows(self) -> pa.Table | None:
        """The rows that it was trained on; None where they are not known."""
        return training_rows(self.run, ((self.hallmark or {}).get("data") or {}).get("fingerprint"))

    def base_facts(self) -> dict[str, Any]:
        """Name, hash and licence of the base, as far as they are known."""
        facts = dict((self.hallmark or {}).get("base") or {})
        source = self.loaded.base or _find(facts.get("name"))
        licence = source.licence() if source else None
        return {**facts, "licence": licence or "unknown: ask the base's authors"}


def open_shipped(where: str, base: str | None) -> Shipped:
    """The artifact that a path or hub name means; of a run its model/.

    Raises GateError where it is not what its hallmark says.
    """
    path = Path(where)
    found = load_contender(path if path.exists() else find_model(where).path, base)
    if found.hallmark is None:
        warn(f"{found.folder}: carries no hallmark; nothing proves what it is")
    return Shipped(found.folder, found.loaded, found.hallmark, base, found.run)


def usual_target(folder: Path, name: str) -> Path:
    """Where an export goes unless the user says: into the run, else beside the artifact.

    What lies in the hub's cache is exported into the current folder.
    """
    resolved = folder.resolve()
    cached = resolved.parent.parent.name
    if resolved.parent.name == "snapshots" and cached.startswith("models--"):
        # The hub's cache is not ours to write into.
        return Path(f"{cached.rpartition('--')[2]}-{name}")
    run = run_above(folder) or run_above(resolved)
    return run / name if run else resolved.parent / f"{resolved.name}-{name}"


def refuse_target(target: Path, force: bool) -> None:
    """UsageError where something is there that would be replaced unasked."""
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target}: is a file; name another --output_dir.")
    if target.is_dir() and any(target.iterdir()):
        if not force:
            raise UsageError(
                f"{target}: is there already; name another --output_dir, or replace it "
                "with --force."
            )
        if read_hallmark(target) is None:
            raise UsageError(
                f"{target}: carries no hallmark, so it is no export that --force may replace; name "
                "another --output_dir."
            )


def _find(name: str | None) -> Source | None:
    try:
        return find_model(name) if name else None
    except UsageError:
        return None
