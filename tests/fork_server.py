"""Commands in processes that are forked from one that has imported everything.

Importing torch, transformers and PEFT takes longer than most commands of the tests. `python()` is
the path of a program that stands for a Python (`TEXTASSAY_PYTHON`, a command's first word): started
with a script or with `-m`, it hands arguments, environment, working directory and the three
standard streams to the server, which forks a process for them; it passes signals on and ends as
that process ended. What such a process starts by `sys.executable` is forked as well.

Where that would not be the same, the real Python is started: with other arguments, or with a
variable that libraries read while they are imported. tests/test_fork_server.py holds both ways to
the same bytes. Tests of how a process starts or is killed use the real Python.
"""

import contextlib
import fcntl
import functools
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

CLIENT = """#!{python} -IS
# Made by tests/fork_server.py.
import json, os, signal, socket, sys

LIKE_THE_SERVER, PREFIXES = {like_the_server!r}, {prefixes!r}
HARMLESS, SET_BY_THE_SERVER = {harmless!r}, {set_by_the_server!r}

def can_be_forked():
    given = sys.argv[1:]
    while given[:1] in (["-u"], ["-P"]):
        given = given[1:]
    named = given and (given[0] == "-m" or given[0].endswith(".py"))
    env = os.environ
    alike = all(env.get(name) == value for name, value in LIKE_THE_SERVER.items())
    others = [name for name in env if name.startswith(PREFIXES) and name not in LIKE_THE_SERVER
              and name not in HARMLESS and (name, env[name]) not in SET_BY_THE_SERVER]
    return named and alike and not others

def main():
    pids, early = [], []
    def pass_on(number, _):
        early.append(number)
        while pids and early:
            os.kill(pids[0], early.pop(0))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)
    server = socket.socket(socket.AF_UNIX)
    server.connect({address!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    answers = server.makefile("rb")
    pids.append(int(answers.readline()))
    while early:
        os.kill(pids[0], early.pop(0))
    status = answers.readline()
    code = os.waitstatus_to_exitcode(int(status)) if status else 70
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)

if can_be_forked():
    main()
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""
# Read by libraries while they are imported: a process with another value of these is not forked.
LIKE_THE_SERVER = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
PREFIXES = ("PYTHON", "HF_", "TRANSFORMERS_", "DS_", "ACCELERATE_", "GOMP_", "OMP_", "CUDA_", "MPL")
# Of these prefixes, but heeded by a forked process as by any, or of no effect.
HARMLESS = ("PYTHON", "PYTHONSAFEPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "HF_HOME")
SET_BY_THE_SERVER = (("DS_ACCELERATOR", "cpu"), ("ARROW_DEFAULT_MEMORY_POOL", "system"))
SECONDS_TO_START = 120
IMPORTED = (
    "torch", "transformers", "transformers.trainer", "accelerate", "datasets", "sklearn.pipeline",
    "sklearn.linear_model", "sklearn.feature_extraction.text", "scipy.stats", "scipy.optimize",
    "matplotlib.figure", "matplotlib.backends.backend_agg", "jinja2", "rich.progress", "rich.table",
    "transformers.models.bert.modeling_bert", "transformers.models.llama.modeling_llama",
    "textassay.training.run", "textassay.training.batch", "textassay.training.launch",
    "textassay.evaluation.standalone", "textassay.evaluation.summary",
    "textassay.evaluation.compare", "textassay.prediction.command",
    "textassay.artifacts.classifier", "textassay.artifacts.merging",
)  # fmt: skip
IF_INSTALLED = ("onnx", "onnxruntime", "onnxscript", "textassay.exporting.export", "deepspeed")


@functools.cache
def python() -> str:
    """The path of what stands for a Python; the first call of a test session starts the server.

    All workers of a session share one server, which ends, and removes its folder, with the session.
    """
    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    folder = Path(tempfile.gettempdir()) / f"textassay-forks-{session}"
    folder.mkdir(mode=0o700, exist_ok=True)
    stands_for_python = folder / "python"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stands_for_python.exists():
            _start(folder, session, stands_for_python)
    return str(stands_for_python)


def forked_command(*arguments: str) -> list[str]:
    """Stands for `python_command` in a module that starts processes."""
    return [python(), "-P", *arguments]


def _start(folder: Path, session: int, stands_for_python: Path) -> None:
    address = folder / "server"
    environment = {
        name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ
    }
    environment |= {"HOME": str(folder), "HF_HOME": str(folder / "hub"), **LIKE_THE_SERVER}
    log = folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder), str(session)], env=environment,
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    last_moment = time.monotonic() + SECONDS_TO_START
    while not address.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < last_moment, "the fork server does not start"
        time.sleep(0.05)
    client = CLIENT.format(
        python=sys.executable, address=str(address), prefixes=PREFIXES, harmless=HARMLESS,
        like_the_server=LIKE_THE_SERVER, set_by_the_server=SET_BY_THE_SERVER,
    )  # fmt: skip
    scratch = folder / "python.scratch"
    scratch.write_text(client)
    scratch.chmod(0o755)
    scratch.rename(stands_for_python)


def serve(folder: Path, session: int) -> None:
    """Fork a process for each client, until the process `session` ends."""
    import_all()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "server.scratch"))
    listening.listen(64)
    events = selectors.DefaultSelector()
    events.register(listening, selectors.EVENT_READ, "client")
    events.register(os.pidfd_open(session), selectors.EVENT_READ, "session")
    (folder / "server.scratch").rename(folder / "server")
    children: dict[Any, int] = {}
    while True:
        for key, _ in events.select():
            if key.data == "session":
                for pid in children.values():
                    os.kill(pid, signal.SIGKILL)
                shutil.rmtree(folder)
                return
            if key.data == "client":
                client, _ = listening.accept()
                pid = fork_for(client, str(folder / "python"))
                children[client] = pid
                events.register(client, selectors.EVENT_READ, "gone")
                events.register(os.pidfd_open(pid), selectors.EVENT_READ, client)
            elif key.data == "gone":  # the client was killed, and so is what it stands for
                events.unregister(key.fileobj)
                if key.fileobj in children:
                    os.kill(children[key.fileobj], signal.SIGKILL)
            else:
                client = key.data
                _, status = os.waitpid(children.pop(client), 0)
                events.unregister(key.fileobj)
                os.close(key.fd)
                with contextlib.suppress(OSError, KeyError):
                    events.unregister(client)
                with contextlib.suppress(OSError):
                    client.sendall(b"%d\n" % status)
                client.close()


def import_all() -> None:
    """What the commands import. Nothing may be computed here: OpenMP's threads do not survive."""
    import gc
    import importlib
    import logging

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("DeepSpeed").addFilter(lambda record: "accelerator" not in str(record.msg))
    os.environ.update(SET_BY_THE_SERVER)
    for name in IMPORTED:
        importlib.import_module(name)
    for name in IF_INSTALLED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def fork_for(client: socket.socket, python: str) -> int:
    """The process that carries out what a client asks for."""
    header, streams, _, _ = socket.recv_fds(client, 8, 3)
    left = int.from_bytes(header, "big")
    parts = []
    while left:
        parts.append(client.recv(left))
        left -= len(parts[-1])
    arguments, folder, environment = json.loads(b"".join(parts))
    pid = os.fork()
    if not pid:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.executable = python
        move_hub_cache()
        carry_out(arguments)
    for stream in streams:
        os.close(stream)
    client.sendall(b"%d\n" % pid)
    return pid


def move_hub_cache() -> None:
    """Where this process's environment says that the hub's files lie, as at an import."""
    import datasets.config
    from huggingface_hub import constants

    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    for module in (constants, datasets.config):
        for name, value in vars(module).items():
            if isinstance(value, str | Path) and str(value).startswith(f"{constants.HF_HOME}/"):
                setattr(module, name, type(value)(str(value).replace(constants.HF_HOME, home, 1)))
    constants.HF_HOME = home


def carry_out(arguments: list[str]) -> NoReturn:
    """What a Python started with these arguments does, in this process."""
    import atexit
    import random
    import runpy
    import threading
    import traceback
    import warnings

    import numpy as np

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
    np.random.seed()
    flags, arguments = split_flags(arguments)
    open_streams(unbuffered="-u" in flags or bool(os.environ.get("PYTHONUNBUFFERED")))
    path = [] if "-P" in flags or os.environ.get("PYTHONSAFEPATH") else [first_on_path(arguments)]
    sys.path[:1] = path
    code = 0
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(BaseException):
        threading._shutdown()
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)


def split_flags(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The flags of Python itself before a script or `-m`, and what follows."""
    count = next(at for at, word in enumerate(arguments) if word not in ("-u", "-P"))
    return arguments[:count], arguments[count:]


def first_on_path(arguments: list[str]) -> str:
    """Where Python looks for modules first: in the current folder for `-m`, else by the script."""
    return str(Path.cwd() if arguments[0] == "-m" else Path(arguments[0]).resolve().parent)


def open_streams(unbuffered: bool) -> None:
    """Standard streams as a Python of its own has them."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG")
    errors = "surrogateescape" if locale in (None, "", "C", "POSIX") else "strict"
    sys.stdin = open(0, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
    for name, number, handling in (("stdout", 1, errors), ("stderr", 2, "backslashreplace")):
        stream = open(number, "w", encoding="utf-8", errors=handling, closefd=False,  # noqa: SIM115
                      buffering=1 if number == 2 or os.isatty(number) else -1)  # fmt: skip
        stream.reconfigure(write_through=unbuffered)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
