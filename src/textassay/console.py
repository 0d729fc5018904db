"""What the user sees: one console for results, one for messages, and errors as one paragraph."""

import errno
import functools
import hashlib
import logging
import os
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textassay.errors import TextassayError, UsageError, visible, without_colours
from textassay.masking import mask
from textassay.memory import choose_allocator
from textassay.stopping import undisturbed
from textassay.threads import settle_threads

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Tables and rules in files and pipes: wide enough that nothing has to be broken.
WIDTH_OF_A_FILE = 120
# Of several processes of one run the first one speaks, and ends the others by its own end. Another
# one that is still alive after so many seconds has an error that the first does not know of.
SECONDS_FOR_THE_FIRST = 10
# For every script: `-` and `_` in flags are the same.
SPELLING = {"token_normalize_func": lambda name: name.replace("-", "_"), "max_content_width": 110}
# The exit code after an interrupt from the keyboard, as shells count signals.
INTERRUPTED = 130
# With less of it in bytes, shared memory is what is full.
ROOM_IN_SHARED_MEMORY = 1 << 20
_plain_warning = warnings.formatwarning
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


class Command(click.Command):
    """A command whose complaints about its command line are `_shown`: names may be a stranger's."""

    def make_context(self, *args: Any, **given: Any) -> click.Context:
        """What Click makes. click.UsageError with a message that may be printed."""
        try:
            return super().make_context(*args, **given)
        except click.UsageError as error:
            if _shown(error.message) == error.message:
                raise
            raise click.UsageError(_shown(error.message), error.ctx) from None


# Rich takes 20 ms to import, which `--help` should not pay for: it is imported where it is used.
@functools.cache
def out() -> "Console":
    """The console for results (standard output)."""
    from textassay.tables import SafeConsole

    return SafeConsole(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)


@functools.cache
def err() -> "Console":
    """The console for progress and messages (standard error)."""
    from textassay.tables import SafeConsole

    width = None if sys.stderr.isatty() else WIDTH_OF_A_FILE
    return SafeConsole(stderr=True, highlight=False, soft_wrap=width is not None, width=width)


def _shown(message: str) -> str:
    """A message as it may be printed: without tokens, and with what cannot be seen made visible."""
    return visible(mask(message))


def tell(line: str) -> None:
    """Print one line of a result; it is never broken, so that programs can read it."""
    if rank() == 0:
        out().print(_shown(line), markup=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one line of progress."""
    if rank() == 0:
        err().print(_shown(message), markup=False)


def warn(message: str) -> None:
    """Print one line that the user should not miss."""
    if rank() == 0:
        err().print(f"note: {_shown(message)}", style="yellow", markup=False)


def alarm(message: str) -> None:
    """Print one line that comes before everything else there is to say."""
    if rank() == 0:
        err().print(_shown(message), style="bold red", markup=False)


def rank() -> int:
    """Which of a run's processes this is, as torchrun counts them."""
    return int(os.environ.get("RANK") or 0)


def counted(number: float, noun: str) -> str:
    """`1 row`, `1,065 rows`, `0.5 seconds`: a number with its noun, whose plural is -s or -es."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:{',' if isinstance(number, int) else 'g'}} {noun}{ending}"


def some(names: Sequence[str], most: int = 5) -> str:
    """`a, b, c`, and of many `a, b, c, d, e and 12 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def table(
    title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], of_texts: bool = False
) -> "Table":
    """A plain table: the first column left, all others right.

    In a terminal that is too narrow, cells of texts are broken, and figures stand below each other.
    """
    from textassay.tables import FittingTable

    made = FittingTable(visible(title), [*map(visible, columns)], of_texts)
    for row in rows:
        made.add_row(*map(visible, row))
    return made


@contextmanager
def byte_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; the block is given what counts bytes."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    shown = sys.stderr.isatty()
    with Progress(*columns, console=err(), transient=True, disable=not shown) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.update(task, advance=count)


def reports_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a user can cause into one paragraph on standard error and an exit code."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        _quiet_imports()
        guard_terminal()
        settle_threads()
        choose_allocator()
        try:
            refuse_other_checkout(Path(sys.argv[0]), Path(__file__).parents[2])
            return function(*args, **kwargs)
        except TextassayError as error:
            _fail(str(error), error.exit_code)
        except OSError as error:
            _fail(_explain(error), 1)
        except KeyboardInterrupt:
            _fail("stopped by the keyboard; a run goes on from its last checkpoint.", INTERRUPTED)

    return wrapper


def refuse_other_checkout(script: Path, package: Path) -> None:
    """UsageError where a checkout's script would run the package, and the jobs, of another one.

    That is what an environment does whose folder was copied together with its checkout.
    """
    checkout = script.resolve().parents[1]
    are_checkouts = all((root / "src" / "textassay").is_dir() for root in (checkout, package))
    if are_checkouts and not checkout.samefile(package):
        raise UsageError(
            f"{script}: this Python has the textassay of another checkout, {package}; use the "
            f"environment of {checkout}, which `bash train.sh` makes."
        )


def guard_terminal() -> None:
    """Let nothing of others reach the terminal raw that does not go through the consoles.

    That is what libraries log, warnings, and tracebacks.
    """
    logging.setLogRecordFactory(_VisibleRecord)
    warnings.formatwarning = _format_warning
    sys.excepthook = _print_traceback


class _VisibleRecord(logging.LogRecord):
    def getMessage(self) -> str:  # noqa: N802 (the library's name)
        return _shown(super().getMessage())


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int,
    line: str | None = None,
) -> str:  # fmt: skip
    return _shown(_plain_warning(message, category, filename, lineno, line))


def _print_traceback(*error: Any) -> None:
    sys.stderr.write(_shown("".join(traceback.format_exception(*error))))


def _quiet_imports() -> None:
    """Two libraries talk at every import, one of them on standard output."""
    # It recommends a package with faster kernels, which nothing here needs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # It finds no GPU. A level would be set anew by its import; a filter stays.
    logging.getLogger("DeepSpeed").addFilter(lambda record: "accelerator" not in str(record.msg))


def _explain(error: OSError) -> str:
    if error.errno == errno.ENOSPC and not error.filename and _shared_memory_is_full():
        return (
            "/dev/shm, the memory that processes share, is full; give the container more (docker "
            "run --shm-size=1g), or start fewer processes (--dataloader_num_workers 0)."
        )
    where = error.filename or "a file"
    if error.errno in DISK_ERRORS:
        what = os.strerror(error.errno or 0).lower()
        elsewhere = "free space, or write elsewhere (--output_dir, --output)"
        return f"{where}: cannot be written ({what}); {elsewhere}."
    return f"{where}: {str(error.strerror or error).lower()}."


def _shared_memory_is_full() -> bool:
    """Locks and tensors that processes share lie there; what they raise names no file."""
    try:
        return shutil.disk_usage("/dev/shm").free < ROOM_IN_SHARED_MEMORY
    except OSError:
        return False


def _fail(message: str, exit_code: int) -> None:
    if rank():
        time.sleep(SECONDS_FOR_THE_FIRST)
    with undisturbed():
        if not _is_said(message):
            said = " ".join(mask(without_colours(message)).split())
            err().print(f"error: {said}", style="red", markup=False)
    raise SystemExit(exit_code)


def _is_said(message: str) -> bool:
    """Whether another process that torchrun started here has said why the run ends.

    On a busy machine torchrun may take longer to end the others than they wait for it. The main
    process is silent about the same words only: what another one says may follow from its own end.
    """
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not own:
        return False
    said = Path(own).parents[1]
    if rank() and any(said.glob("*.said")):
        return True
    try:
        said.joinpath(hashlib.sha256(message.encode()).hexdigest() + ".said").touch(exist_ok=False)
    except FileExistsError:
        return True
    except OSError:
        pass  # nowhere to note it: said twice is better than not at all
    return False
