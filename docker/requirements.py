"""Print what pyproject.toml requires, a line each: python requirements.py EXTRA …

The images install this before they copy the source, so that a change of the code installs nothing.
"""

import sys
import tomllib
from pathlib import Path


def main(extras: list[str]) -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = list(project["dependencies"])
    for extra in extras:
        required += project["optional-dependencies"][extra]
    print("\n".join(required))


if __name__ == "__main__":
    main(sys.argv[1:])
