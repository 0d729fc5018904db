"""Names and labels of others in what is written as Markdown."""

import yaml

from textassay.errors import visible

# What begins or ends something in Markdown, in HTML inside it, or in a table.
SIGNS = "\\`*_|<>[]#&~$"


def plain_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    for sign in SIGNS:
        text = text.replace(sign, f"\\{sign}")
    return visible(" ".join(text.split()))


def yaml_text(text: str) -> str:
    """A text as a quoted value on one line of YAML, as the head of a model card holds them."""
    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))
    return visible(quoted.strip())
