"""What a process says when it ends."""

import io
import json
import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from textassay import console
from textassay.console import counted, reports_errors
from textassay.errors import UsageError, visible
from textassay.tables import SafeConsole

TOKEN = "hf_" + "aB3" * 11


@pytest.mark.parametrize("speak", [console.say, console.warn, console.alarm, console.tell])
def test_no_token_is_printed(speak, monkeypatch) -> None:
    written = io.StringIO()
    for name in ("out", "err"):
        monkeypatch.setattr(console, name, lambda: Console(file=written, width=200))
    speak(f"the address https://me:secret@host/{TOKEN} cannot be reached")
    assert written.getvalue().endswith("the address https://***@host/*** cannot be reached\n")


def test_no_token_is_in_an_error(capfd) -> None:
    @reports_errors
    def fail() -> None:
        raise UsageError(f"the hub refuses {TOKEN}.")

    with pytest.raises(SystemExit):
        fail()
    said = capfd.readouterr().err
    assert "the hub refuses ***." in said and TOKEN not in said


@pytest.mark.parametrize("given", [["a", TOKEN], [f"--number={TOKEN}"]])
def test_no_token_is_in_a_complaint_about_the_command_line(given) -> None:
    import click
    from click.testing import CliRunner

    @click.command(cls=console.Command, context_settings=console.SPELLING)
    @click.argument("one")
    @click.option("--number", type=int)
    def main(one: str, number: int) -> None:
        pass

    result = CliRunner().invoke(main, given)
    assert result.exit_code == 2 and "***" in result.output and TOKEN not in result.output


# The second signal comes while the process says that the first one has stopped it.
TOLD_TWICE = """
import os, signal
from textassay.console import err, reports_errors
from textassay.errors import Stopped

said = err().print
def told_again(*words, **style):
    os.kill(os.getpid(), signal.SIGUSR1)
    said(*words, **style)
err().print = told_again

@reports_errors
def main():
    raise Stopped("stopped by SIGUSR1 at step 3.")

main()
"""


def test_a_second_signal_does_not_cut_the_last_word() -> None:
    done = subprocess.run([sys.executable, "-c", TOLD_TWICE], capture_output=True, text=True)
    assert done.returncode == 75
    assert done.stderr == "error: stopped by SIGUSR1 at step 3.\n"


# Locks that processes share are kept in /dev/shm; nothing else is full.
SHARING = """
import multiprocessing, sys
from textassay.console import reports_errors

@reports_errors
def main():
    multiprocessing.Lock()

sys.argv = ["/no/checkout/script.py"]
main()
"""
WITHOUT_SHARED_MEMORY = (
    "mount -t tmpfs -o size=4k none /dev/shm && (cat /dev/zero > /dev/shm/full 2>/dev/null; "
    '"$0" -c "$1")'
)


def test_shared_memory_that_is_full_is_not_called_a_full_disk() -> None:
    command = ["unshare", "--mount", "sh", "-c", WITHOUT_SHARED_MEMORY, sys.executable, SHARING]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if done.returncode and "error: " not in done.stderr:
        pytest.skip(f"a mount of one's own needs root: {done.stderr.strip()}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: /dev/shm, the memory that processes share, is full; give")


MAIN, OTHER = "the model does not fit.", "process 1: another process of this run has ended."


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        # On a busy machine the others outlive the main process, or come before it.
        ([(0, MAIN), (1, MAIN), (2, MAIN)], [MAIN]),
        ([(1, MAIN), (0, MAIN), (2, MAIN)], [MAIN]),
        ([(0, MAIN), (1, OTHER)], [MAIN]),
        # What the main process knows is never left unsaid.
        ([(1, OTHER), (2, OTHER), (0, MAIN)], [OTHER, MAIN]),
    ],
)
def test_of_several_processes_that_fail_one_speaks(
    failures: list[tuple[int, str]], said: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    @reports_errors
    def fail(message: str) -> None:
        raise UsageError(message)

    console.err.cache_clear()
    monkeypatch.setattr(console, "SECONDS_FOR_THE_FIRST", 0)
    for rank, message in failures:
        own = tmp_path / "attempt_0" / str(rank) / "error.json"  # as torchrun lays them
        own.parent.mkdir(parents=True)
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(own))
        with pytest.raises(SystemExit):
            fail(message)
    console.err.cache_clear()
    assert capsys.readouterr().err.splitlines() == [f"error: {message}" for message in said]


def test_a_script_of_one_checkout_does_not_run_the_package_of_another(tmp_path):
    for name in ("original", "copy"):
        (tmp_path / name / "src" / "textassay").mkdir(parents=True)
    script = tmp_path / "copy" / "scripts" / "train_lora.py"
    console.refuse_other_checkout(script, tmp_path / "copy")
    console.refuse_other_checkout(script, tmp_path / "lib" / "python3.11")  # installed as a copy
    with pytest.raises(UsageError, match=r"another checkout, .*/original; use the environment of"):
        console.refuse_other_checkout(script, tmp_path / "original")


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [(0, "row", "0 rows"), (1, "row", "1 row"), (2, "process", "2 processes"),
     (1, "process", "1 process"), (1065, "probe row", "1,065 probe rows"),
     (1.0, "second", "1 second"), (0.5, "second", "0.5 seconds")],
)  # fmt: skip
def test_one_row_is_no_rows(number: float, noun: str, said: str) -> None:
    assert counted(number, noun) == said


@pytest.mark.parametrize("width", [30, 40, 60, 79, 80, 120])
def test_no_figure_of_a_table_is_broken_in_two(width: int) -> None:
    cells = ["seed 123", "0.553 [0.484, 0.619]", "0.554 [0.482, 0.614]", "1.117"]
    made = console.table("quickstart", ["", "accuracy", "macro_f1", "log_loss"], [cells, cells])
    terminal = Console(width=width, record=True, file=io.StringIO())
    terminal.print(made)
    said = terminal.export_text()
    assert all(said.count(cell) == 2 for cell in cells), said
    assert max(map(len, said.splitlines())) <= width
    assert said.count("accuracy") == (1 if width >= 79 else 2)


# Sets the window's title, goes up and over what stands there, prints in red; in one byte, too.
HOSTILE = "\x1b]0;owned\x07\x1b[2A\x1b[31mred\x9b31m\r\x08\x7f\u202egnp\u2066"
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_control_characters_are_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "SECONDS_FOR_THE_FIRST", 0)
    for each in (console.out, console.err):
        each.cache_clear()

    @reports_errors
    def speak() -> None:
        for speaking in (console.tell, console.say, console.warn, console.alarm):
            speaking(f"label {HOSTILE}")
        console.out().print(Text(HOSTILE), Panel(HOSTILE))
        console.out().print(console.table(HOSTILE, ["", HOSTILE], [[HOSTILE, HOSTILE]]))
        logging.getLogger("library").warning("has %s", HOSTILE)
        warnings.warn(HOSTILE, stacklevel=1)
        raise UsageError(f"{HOSTILE}: is no label.")

    with pytest.raises(SystemExit), warnings.catch_warnings():
        warnings.simplefilter("always")
        speak()
    said = capsys.readouterr()
    for each in (console.out, console.err):
        each.cache_clear()
    assert not RAW.search(said.out) and not RAW.search(said.err), (said.out, said.err)
    assert said.out.count("\\x1b]0;owned\\x07") >= 4
    assert "\\u009b31m\\x0d\\x08\\u007f\\u202egnp" in said.out


def test_our_own_colours_reach_the_terminal_all_the_same() -> None:
    file = io.StringIO()
    terminal = SafeConsole(file=file, force_terminal=True, color_system="standard", highlight=False)
    terminal.print("[red]fine[/red] \x1b[32mnot green")
    assert file.getvalue() == "\x1b[31mfine\x1b[0m \\x1b[32mnot green\n"


def test_what_is_made_visible_is_the_same_json() -> None:
    content = {"label": HOSTILE, "other": "\ud800\t\n"}
    line = json.dumps(content, ensure_ascii=False)
    assert json.loads(visible(line)) == content
    assert visible("日本語 é ‏שלום\t\n") == "日本語 é ‏שלום\t\n"


def test_a_traceback_shows_no_control_characters_either() -> None:
    code = f"""
from textassay.console import reports_errors
@reports_errors
def main():
    raise RuntimeError({HOSTILE!r})
main()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 1 and "RuntimeError" in done.stderr
    assert not RAW.search(done.stderr)
