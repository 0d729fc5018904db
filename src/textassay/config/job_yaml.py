"""Job files are YAML 1.2: numbers and words mean what they look like, and no key stands twice.

PyYAML reads YAML 1.1, to which `010` is 8, `1:30` is 90, `no` is false and `1e-4` is a text, and of
a key that stands twice it keeps the last without a word.
"""

import re
from typing import Any

import yaml

MOST_VALUES = 10_000
INT, FLOAT, BOOL, NULL = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the core schema of YAML 1.2.2 (section 10.3.2)."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (PyYAML's own attribute)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping. ConstructorError where a key stands twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} stands twice", key.start_mark
                    )
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_integer(self, node: Any) -> int:
        """Decimal whatever its zeros; `0o17` and `0x1F`."""
        text = str(self.construct_scalar(node))
        sign = -1 if text.startswith("-") else 1
        digits = text.lstrip("+-")
        base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
        return sign * int(digits[2:] if base != 10 else digits, base)


_Loader.add_constructor(INT, _Loader.construct_integer)
for tag, pattern, first in (
    (BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(tag, re.compile(f"^(?:{pattern})$"), list(first))
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])


def read_yaml(text: str) -> Any:
    """What a job file holds.

    yaml.YAMLError where it is not YAML, a key stands twice, or aliases make much out of little.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_multiplied(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_multiplied(root: yaml.Node) -> None:
    """ComposerError where a document has too many values once its aliases are written out."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = MOST_VALUES + 1  # what a node inside itself counts
            sizes[id(node)] = min(MOST_VALUES + 1, 1 + sum(map(size, _children(node))))
        return sizes[id(node)]

    if size(root) > MOST_VALUES:
        raise yaml.composer.ComposerError(
            None, None, f"holds more than {MOST_VALUES:,} values with its aliases written out",
            root.start_mark,
        )  # fmt: skip


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
