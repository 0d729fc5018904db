"""The files of an artifact by their names. Whoever copies one copies these, and nothing else that
lies there.
"""

import shutil
from pathlib import Path

# What says how weights are to be read, in whatever form they are.
COMPANY = (
    "config.json", "adapter_config.json", "generation_config.json", "label_mapping.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
    "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "added_tokens.json", "chat_template.jinja",
)  # fmt: skip
# What the artifacts of a run hold besides, as patterns.
WEIGHTS_AND_RECORDS = (
    "model*.safetensors", "model.safetensors.index.json", "adapter_model.safetensors",
    "pytorch_model.bin", "adapter_model.bin", "README.md", "consolidation.json",
)  # fmt: skip


def copy_known(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    """Copy the files of these names from one folder into a new one; see `refuse_links`."""
    target.mkdir(parents=True)
    for pattern in patterns:
        for path in source.glob(pattern):
            if path.is_file():
                shutil.copy(path, target / path.name)
