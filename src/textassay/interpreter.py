"""How one Python starts another."""

import sys


def python_command(*arguments: str) -> list[str]:
    """The command line of a Python like this one, with these arguments.

    Without `-P` a module in the current folder (`python -m`, `-c`) or beside the script would be
    taken in the place of a library's: a click.py that came with somebody's artifact, say.
    """
    return [sys.executable, "-P", *arguments]
