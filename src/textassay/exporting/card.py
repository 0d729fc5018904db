"""The README.md of an exported artifact: what it is, what it was held to, how to ask it."""

from collections.abc import Sequence
from pathlib import Path

from textassay.artifacts.kinds import Loaded
from textassay.artifacts.onnx_files import onnx_file
from textassay.evaluation.markdown import plain_markdown

ASK_RUNTIME = """\
```python
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession("path/to/this/directory/{file}")
tokenizer = Tokenizer.from_file("path/to/this/directory/tokenizer.json")
tokenizer.enable_truncation({length})
ids = np.array([tokenizer.encode("a text").ids])
feed = {{"input_ids": ids, "attention_mask": np.ones_like(ids)}}
logits, probabilities = session.run(None, feed)
```

Texts of different length are padded on the right with the id {pad}, where the mask is 0."""

PROMPTED = "Every text stands in a prompt, which `Classifier` fills; it is in the file's metadata."

CARD = """\
---
library_name: onnx
pipeline_tag: text-classification
---
# {title}

A text classifier with {count} labels ({labels}), as ONNX. Batch size and length are free; pooling
and softmax{calibrated} are inside. Outputs are `logits` and `probabilities`.

Held to its source on {rows}: {parity}.
{table}
With textassay:

```python
from textassay import Classifier

print(Classifier.load("path/to/this/directory").predict("a text"))
```

With ONNX Runtime alone:

{ask}

`hallmark.json` says what these files are made of; `textassay verify DIR` holds them to it.
The licences of the base model and of the data apply.
"""


def export_card(
    folder: Path, loaded: Loaded, rows: str, parity: str, table: Sequence[str] = ()
) -> str:
    """The card's text. `table` are lines of Markdown that compare size, speed and accuracy."""
    names = loaded.labels.names
    temperature = loaded.temperature
    ask = PROMPTED if loaded.prompt else ASK_RUNTIME.format(
        file=onnx_file(folder).name, length=loaded.max_length, pad=loaded.tokenizer.pad_token_id
    )  # fmt: skip
    return CARD.format(
        title="INT8 classifier" if table else "ONNX classifier",
        count=len(names),
        labels=plain_markdown(", ".join(names)),
        calibrated=f" (with temperature {temperature:.3g})" if temperature != 1 else "",
        rows=plain_markdown(rows),
        parity=plain_markdown(parity),
        table="\n" + "\n".join(table) + "\n" if table else "",
        ask=ask,
    )
