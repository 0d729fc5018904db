"""Tokens and passwords in what is stored or printed: what looks like one becomes `***`."""

import re
from collections.abc import Sequence
from typing import Any

MASK = "***"
# No pattern may take more than linear time: a stranger's text is masked, too.
# Tokens by the form that their makers give them: Hugging Face, GitHub, GitLab, AWS, OpenAI and
# others, Slack, Google, Weights & Biases, PyPI, npm, and JSON Web Tokens.
BY_FORM = re.compile(
    r"""\b(
      hf_[A-Za-z0-9]{16,} | (api_org|hf_oauth)_[A-Za-z0-9]{16,}
    | gh[pousr]_[A-Za-z0-9]{16,} | github_pat_\w{16,} | glpat-[\w-]{16,}
    | (AKIA|ASIA)[A-Z0-9]{16}
    | sk-(proj|ant|svcacct|admin|or-v1)-[\w-]{20,} | sk-[A-Za-z0-9]{32,}
    | xox[a-z]-[\w-]{10,} | AIza[\w-]{30,}
    | wandb_v\d+_\w{16,} | pypi-AgE[\w-]{16,} | npm_[A-Za-z0-9]{16,}
    | (?<![\w-])eyJ[\w-]{10,2000}\.[\w-]{10,2000}\.[\w-]*
    )""",
    re.VERBOSE,
)
# What stands behind a name that says so: `--hub_token X`, `WANDB_API_KEY=X`, `Bearer X`.
SECRET = r"(token|secret|password|passwd|api[_-]?key|access[_-]?key|credentials)"
BY_FLAG = re.compile(rf"((?<![\w-])--[\w-]{{0,60}}{SECRET}[=\s]\s*)(?!--)\S+", re.IGNORECASE)
BY_VARIABLE = re.compile(rf"(\b[A-Z0-9_]*{SECRET.upper()}=)[^\s&]+")
BEARER = re.compile(r"(\bBearer\s+)(?=\S*\d|\S{20})[\w.~+/=-]{8,}", re.IGNORECASE)
# https://user:password@host, and https://token@host; git@host is a name alone.
SCHEME = r"(\b[a-z][a-z0-9+.-]{0,20}://)"
IN_ADDRESS = re.compile(rf"{SCHEME}([^\s/@:]*:[^\s/@]+|[^\s/@:]{{16,}})(?=@)", re.IGNORECASE)
# A key of Weights & Biases has the form of a git commit.
KEY_OR_COMMIT = re.compile(r"[0-9a-f]{40}")


def mask(text: str) -> str:
    """The text without what looks like a token, a key, or a password in an address."""
    for behind in (BY_FLAG, BY_VARIABLE, BEARER, IN_ADDRESS):
        text = behind.sub(rf"\g<1>{MASK}", text)
    return BY_FORM.sub(MASK, text)


def looks_secret(value: Any) -> bool:
    """Whether a text, or one inside a list or a mapping, holds what would be masked."""
    if isinstance(value, dict):
        return any(looks_secret(inner) for pair in value.items() for inner in pair)
    if isinstance(value, list | tuple):
        return any(looks_secret(inner) for inner in value)
    return isinstance(value, str) and mask(value) != value


def mask_within(content: Any) -> Any:
    """What JSON can hold, with every text in it masked."""
    if isinstance(content, dict):
        return {key: mask_within(value) for key, value in content.items()}
    if isinstance(content, list):
        return [mask_within(value) for value in content]
    return mask(content) if isinstance(content, str) else content


def mask_command(arguments: Sequence[str]) -> str:
    """A command line to be kept. 40 hexadecimal digits are masked unless they are a revision."""
    shown = []
    for before, argument in zip(("", *arguments), arguments, strict=False):
        flag, _, value = argument.rpartition("=")
        if KEY_OR_COMMIT.fullmatch(value) and not (flag or before).endswith("revision"):
            argument = f"{flag}={MASK}" if flag else MASK
        shown.append(argument)
    return mask(" ".join(shown))
