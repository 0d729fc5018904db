"""From a trained model to an artifact that is whole, stamped and verified, or to none at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from textassay.artifacts.hallmark import stamp, verify_in_fresh_process
from textassay.artifacts.kinds import Loaded, load_artifact, save_weights, set_temperature
from textassay.data.labels import LabelMap
from textassay.data.token_ids import encode_texts
from textassay.errors import GateError
from textassay.evaluation.evaluate import Evaluation
from textassay.files import replacing, write_json, write_text
from textassay.models.predict import compute_logits
from textassay.training.checkpoints import validation_loss

# The same arithmetic on both sides: what is left is the order of sums in another attention kernel,
# and rounding, which grows with what is rounded; so much is allowed in any case,
AGREEMENT = {"fp32": 0.001, "bf16": 0.1, "fp16": 0.05}
# and so many times what half precision itself changes about the logits of these very rows.
ROUNDINGS = 4

# So much may half precision change about the mean loss over the validation rows; a lost head
# changes it by 0.5 and more.
SAME_LOSS = {"fp32": 0.001, "bf16": 0.1, "fp16": 0.05}

Stamping = Callable[[Loaded], dict[str, Any]]


def publish(
    folder: Path,
    write: Callable[[Path], None],
    check: Callable[[Loaded], None],
    texts: list[str],
    describe: Stamping,
) -> Loaded:
    """Save a model, read it back, check, stamp, and verify in a fresh process.

    `write(folder)` puts weights, configs, tokenizer and labels into an empty place, `check(loaded)`
    holds what was read back to what was trained. `texts` are the probe's. `describe(loaded)` gives
    base, data, made_by and validation for the hallmark, the text of the model card, and the
    temperature, or None. The artifact appears in `folder` only if all of it held; else GateError
    says what did not.
    """
    with replacing(folder) as scratch:
        write(scratch)
        loaded = load_artifact(scratch)
        check(loaded)
        facts = describe(loaded)
        write_text(scratch / "README.md", facts.pop("card"))
        temperature = facts.pop("temperature")
        if temperature is not None:
            set_temperature(scratch, loaded, temperature)
        stamp(scratch, loaded, texts, **facts)
        verify_in_fresh_process(scratch)
    return loaded


def write_model(folder: Path, model: Any, tokenizer: Any, labels: LabelMap) -> None:
    """Everything that a model in memory leaves on disk."""
    save_weights(model, folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / "label_mapping.json", labels.to_json())


def refuse_other_loss(checkpoint: Path, validated: Evaluation, precision: str) -> None:
    """GateError unless the artifact has the loss that its checkpoint had on the validation rows.

    A checkpoint that was not evaluated does not know.
    """
    seen = validation_loss(checkpoint)
    found = validated.scores["log_loss"].value
    if seen is None or found is None:
        return
    if not abs(found - seen) <= SAME_LOSS[precision] * max(1.0, seen):
        raise GateError(
            f"the model made from {checkpoint.name} does not compute what was trained: its log "
            f"loss on {len(validated.truth)} validation rows is {found:.4f}, and was {seen:.4f} in "
            "training. Nothing was saved; the checkpoints are kept. This is a fault of the method "
            "or of this tool: report it."
        )


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
