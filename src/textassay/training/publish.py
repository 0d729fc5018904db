"""From a trained model to an artifact that is whole, stamped and verified, or to none at all."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from textassay.artifacts.hallmark import read_hallmark, restamp, stamp
from textassay.artifacts.kinds import Loaded, load_artifact, save_weights
from textassay.artifacts.merging import merged_classifier
from textassay.data.encode import encode_texts
from textassay.data.labels import LabelMap
from textassay.errors import GateError
from textassay.files import replacing, write_json, write_text
from textassay.models.classifier import load_tokenizer
from textassay.models.predict import compute_logits

# The same arithmetic on both sides: what is left is the order of sums in another attention kernel,
# and rounding, which grows with what is rounded; so much is allowed in any case,
AGREEMENT = {"fp32": 0.001, "bf16": 0.1, "fp16": 0.05}
# and so many times what half precision itself changes about the logits of these very rows.
ROUNDINGS = 4

Stamping = Callable[[Loaded], dict[str, Any]]


def publish(
    folder: Path,
    model: Any,
    tokenizer: Any,
    labels: LabelMap,
    texts: list[str],
    precision: str,
    describe: Stamping,
) -> Loaded:
    """Save a model, read it back, compare, stamp, and verify in a fresh process.

    `texts` are the probe's. `describe(loaded)` gives base, data, made_by and validation for the
    hallmark, and the text of the model card. The artifact appears in `folder` only if all of it
    held; else GateError says what did not.
    """
    with replacing(folder) as scratch:
        save_weights(model, scratch)
        tokenizer.save_pretrained(scratch)
        write_json(scratch / "label_mapping.json", labels.to_json())
        loaded = load_artifact(scratch)
        refuse_disagreement(model, loaded, texts, precision)
        facts = describe(loaded)
        write_text(scratch / "README.md", facts.pop("card"))
        stamp(scratch, loaded, texts, **facts)
        verify_in_fresh_process(scratch)
    return loaded


def publish_merged(adapter: Path, folder: Path) -> float:
    """Merge the adapter in one directory into a model in another; the largest change of a logit.

    The model is read back, compared with the adapter's stamped logits, stamped as made from it,
    and verified in a fresh process. GateError where the merged model answers otherwise.
    """
    stamped = read_hallmark(adapter)
    if stamped is None:
        raise GateError(f"{adapter}: carries no hallmark, so there is nothing to hold a merge to.")
    with replacing(folder) as scratch:
        save_weights(merged_classifier(adapter), scratch)
        load_tokenizer(str(adapter)).save_pretrained(scratch)
        for name in ("label_mapping.json", "README.md"):
            if (adapter / name).is_file():
                shutil.copy(adapter / name, scratch)
        loaded = load_artifact(scratch)
        after = np.array(restamp(scratch, adapter, loaded)["probe"]["logits"])
        before = np.array(stamped["probe"]["logits"])
        difference = float(np.abs(after - before).max(initial=0.0))
        allowed = 10 * stamped["probe"]["tolerance"]
        if not difference <= allowed:
            raise GateError(
                f"{folder}: the merged model's logits differ by {difference:.4g} from the "
                f"adapter's (at most {allowed:.4g} is allowed); nothing was saved."
            )
        verify_in_fresh_process(scratch)
    return difference


def refuse_disagreement(trained: Any, loaded: Loaded, texts: list[str], precision: str) -> None:
    """GateError unless the model in memory and the one read back give the same logits."""
    if not texts:
        return
    ids, _ = encode_texts(texts, loaded.tokenizer, loaded.max_length, loaded.prompt)
    device = next(trained.parameters()).device
    pad = loaded.tokenizer.pad_token_id
    before = compute_logits(trained, ids, pad, precision=precision)
    after = compute_logits(loaded.model.to(device), ids, pad, precision=precision)
    exact = compute_logits(loaded.model, ids, pad)
    difference = float(np.abs(before - after).max())
    rounding = float(np.abs(after - exact).max())
    allowed = float(np.maximum(AGREEMENT[precision], ROUNDINGS * rounding))  # nan stays nan
    if not difference <= allowed:
        raise GateError(
            f"the saved model does not compute what the trained one does: logits of {len(texts)} "
            f"validation rows differ by {difference:.4g}, and {precision} explains {allowed:.4g} "
            "at most. Nothing was saved; the checkpoints are kept. This is a fault of the method "
            "or of this tool: report it."
        )


def verify_in_fresh_process(folder: Path) -> None:
    """Run the hallmark's own verification where nothing of this process can help it."""
    done = subprocess.run(
        [sys.executable, "-m", "textassay.artifacts.hallmark", str(folder)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()
        raise GateError(f"the saved artifact does not hold in a fresh process: {said[-1500:]}")
