"""Which tests a change reaches: python tests/changed.py [BASE], BASE being the last commit on main.

Prints pytest's arguments for tests/run.sh --changed. A test file is reached by a changed file that
it imports, directly or through others (import-linter's graph of the package, and the imports of the
test files), or that it names. Files are taken in the order of their distance from the change, until
what they took before (tests/seconds.json) fills the time; slow tests only of files that import,
name or mirror what was changed. What is left out is said on standard error.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.progress import read_record  # noqa: E402

PACKAGE = "textassay"
SECONDS = 75 * (os.cpu_count() or 1)
# Named by nobody, but what everything runs under.
BASIS = {"tests/conftest.py", "pyproject.toml", "constraints.txt"}
BASIS |= {str(path.relative_to(ROOT)) for path in (ROOT / "locks").glob("*.txt")}


def changed_files(base: str | None) -> list[str]:
    """What differs from `base`, or from where this branch left main, in commits or beside them."""
    base = base or _git("merge-base", "HEAD", _main()).strip()
    committed = _git("diff", "--name-only", base).split()
    return sorted({*committed, *_git("ls-files", "--others", "--exclude-standard").split()})


def _main() -> str:
    """The local main branch, else the remote's; without either, the last commit."""
    for name in ("main", "origin/main"):
        if subprocess.run(["git", "rev-parse", "-q", "--verify", name], cwd=ROOT,
                          capture_output=True).returncode == 0:  # fmt: skip
            return name
    return "HEAD"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True,
                          text=True).stdout  # fmt: skip


def distances(changed: Iterable[str]) -> dict[str, int]:
    """{test file: how many imports away the nearest changed file is}; 0 is the file itself."""
    imported_by = _importers()
    reached = dict.fromkeys(changed, 0)
    queue = list(reached)
    for file in queue:
        for importer in sorted(imported_by.get(file, ())):
            if importer not in reached:
                reached[importer] = reached[file] + 1
                queue.append(importer)
    tests = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    found = {file: distance for file, distance in reached.items() if file in tests}
    for file in tests - found.keys():
        if any(_is_named(name, file) or _mirrors(file, name) for name in reached
               if reached[name] == 0):  # fmt: skip
            found[file] = 1
    return found


def _importers() -> dict[str, set[str]]:
    """{file: the files that import it}, for the package, the scripts and the tests."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    files = {module: _file_of(module) for module in graph.modules}
    imported_by: dict[str, set[str]] = {
        files[module]: {files[name] for name in graph.find_modules_that_directly_import(module)}
        for module in graph.modules
    }
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for name in _imports(path):
            target = files.get(name) or f"{name.replace('.', '/')}.py"
            imported_by.setdefault(target, set()).add(str(path.relative_to(ROOT)))
    return imported_by


def _file_of(module: str) -> str:
    path = Path("src", *module.split("."))
    return str(path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py"))


def _imports(path: Path) -> Iterable[str]:
    """The modules that a file names in its imports; `from a import b` may mean a or a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in inside if (ROOT / _file_of(name)).is_file()]
            yield from known or [node.module]


def _is_named(changed: str, test: str) -> bool:
    """Whether a test file names a changed command, page, job or other file."""
    is_command = changed.startswith(("scripts/", f"src/{PACKAGE}/commands/"))
    if changed.startswith(("src/", "tests/")) and not is_command:
        return False
    name = re.escape(Path(changed).name)
    stem = re.escape(Path(changed).stem) if is_command else name
    text = (ROOT / test).read_text(encoding="utf-8")
    return re.search(rf"{name}|[\"']{stem}[\"']", text) is not None


def _mirrors(test: str, changed: str) -> bool:
    """tests/models/test_heads.py mirrors src/textassay/models/heads.py."""
    place = Path(changed)
    if place.parts[:2] != ("src", PACKAGE):
        return False
    return Path(test) == Path("tests", *place.parts[2:-1], f"test_{place.name}")


def choose(reached: dict[str, int]) -> tuple[list[str], list[str], list[str]]:
    """(files to run, those of them whose slow tests run as well, files left out)."""
    record = read_record()
    chosen: list[str] = []
    slow: list[str] = []
    left_out: list[str] = []
    seconds = 0.0
    for file in sorted(reached, key=lambda file: (reached[file], _size(record, file))):
        fast = record["fast"].get(file, 0.0)
        whole = fast + record["slow"].get(file, 0.0)
        if seconds + fast > SECONDS:
            left_out.append(file)
            continue
        chosen.append(file)
        if reached[file] <= 1 and seconds + whole <= SECONDS:
            slow.append(file)
            seconds += whole
        else:
            seconds += fast
    return chosen, slow, left_out


def _size(record: dict[str, dict[str, float]], file: str) -> float:
    return sum(part.get(file, 0.0) for part in record.values())


def main() -> None:
    """Print the arguments, one a line."""
    changed = changed_files(sys.argv[1] if len(sys.argv) > 1 else None)
    basis = sorted(BASIS.intersection(changed))
    if basis:
        print(f"{', '.join(basis)} reaches every test: bash tests/run.sh", file=sys.stderr)
    chosen, slow, left_out = choose(distances(set(changed) - BASIS))
    without_slow = [file for file in chosen if file not in slow]
    told = f"{len(changed)} changed files reach {len(chosen) + len(left_out)} test files"
    if without_slow:
        told += f"; of {len(without_slow)} the fast tests only"
    print(told, file=sys.stderr)
    if left_out:
        print(f"left out, for time: {' '.join(left_out)}", file=sys.stderr)
    print(*chosen, *(f"--without-slow={file}" for file in without_slow), sep="\n")


if __name__ == "__main__":
    main()
