"""What an examination of a directory found: facts, and what is wrong with what to do about it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from textassay.artifacts.fitting import Misfit
from textassay.console import tell
from textassay.files import JsonError, read_json

WRONG, NOTE = "wrong", "note"
UNITS = ("bytes", "kB", "MB", "GB", "TB")
# The facts in the order in which they are shown, and how they are called.
FACTS = {
    "kind": "kind", "artifact": "artifact", "method": "method", "base": "base", "labels": "labels",
    "parameters": "parameters", "dtype": "dtype", "zero_stage": "ZeRO stage",
    "world_size": "world size", "bytes": "on disk", "hallmark": "hallmark",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """`wrong` where predictions would be wrong or impossible, else a `note`.

    `what` begins with the place: a file, with its key or tensor. `advice` says what to do.
    """

    severity: str
    what: str
    advice: str


@dataclass
class Diagnosis:
    """What is known of a directory. Each part of the examination adds to it."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def wrong(self, what: str, advice: str) -> None:
        """Add what makes predictions wrong or impossible."""
        self.findings.append(Finding(WRONG, what, advice))

    def note(self, what: str, advice: str) -> None:
        """Add what someone should know."""
        self.findings.append(Finding(NOTE, what, advice))

    def add_misfits(self, misfits: Sequence[Misfit]) -> None:
        """Add what the loader refuses too."""
        for misfit in misfits:
            self.wrong(misfit.what, misfit.advice)

    def count_wrong(self) -> int:
        """How many things are wrong; notes do not count."""
        return sum(finding.severity == WRONG for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        found = [asdict(finding) for finding in self.findings]
        unproved = self.unproved()
        return {
            "path": str(self.path), "facts": self.facts, "findings": found,
            "unproved": [unproved] if unproved else [],
        }  # fmt: skip

    def unproved(self) -> str | None:
        """What no look at the files can find out; None for what has a hallmark, or needs none."""
        if self.facts.get("hallmark") is not False:
            return None
        return (
            "without a hallmark nothing proves that these weights are the ones that were trained, "
            "or that the labels are in the order of the training. Evaluate it on rows whose labels "
            "are known: bash eval.sh DIR --data_path FILE"
        )


def read_object(path: Path, diagnosis: Diagnosis) -> dict[str, Any] | None:
    """The object in a JSON file; None, with a finding, where there is none to be read."""
    try:
        content = read_json(path)
    except JsonError as error:
        diagnosis.wrong(f"{path.name}: is not JSON ({error.reason}).", "Mend it or copy it again.")
        return None
    if isinstance(content, dict):
        return content
    diagnosis.wrong(
        f"{path.name}: holds a {type(content).__name__} where an object with settings is expected.",
        "Copy it again from where the directory was made.",
    )
    return None


def print_diagnosis(diagnosis: Diagnosis, as_json: bool) -> None:
    """The facts line by line and a paragraph for each finding, or all of it as JSON."""
    if as_json:
        tell(json.dumps(diagnosis.to_json(), indent=2, ensure_ascii=False))
        return
    facts = {**diagnosis.facts, "hallmark": "yes" if diagnosis.facts.get("hallmark") else "none"}
    tell(f"{diagnosis.path}\n")
    for name, title in FACTS.items():
        if facts.get(name) is not None:
            tell(f"  {title:<12}{_shown(name, facts[name])}")
    for finding in diagnosis.findings:
        tell(f"\n{finding.severity}: {finding.what} {finding.advice}")
    if not diagnosis.findings:
        tell("\nNothing was found that is wrong.")
    if unproved := diagnosis.unproved():
        tell(f"\nunproved: {unproved}")


def _shown(name: str, fact: Any) -> str:
    if name == "bytes":
        return readable_size(fact)
    if isinstance(fact, list):
        more = f", … ({len(fact)})" if len(fact) > 10 else ""
        return ", ".join(map(str, fact[:10])) + more
    return f"{fact:,}" if isinstance(fact, int) else str(fact)


def readable_size(size: float) -> str:
    """A number of bytes for people, as `1.2 MB`."""
    for unit in UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == UNITS[0] else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {UNITS[-1]}"
