"""Files of a few bytes that would take hundreds of megabytes, and what they are made of.

Each attack takes a good directory, or writes a file, of some kB, and changes it so that a reader
who believes what is written there reserves memory out of all proportion.
"""

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from onnx import TensorProto, helper
from tests.models_for_tests import tiny_bert
from tests.serving.tiny_onnx import LABELS, tiny_onnx

OPTIM, STATES = "zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"
HUGE = 60_000_000
NAMES = dict(enumerate(LABELS))


def good_model(folder: Path) -> Path:
    """A classifier of a tiny BERT with three labels, as transformers saves it."""
    tiny_bert(folder)
    config = transformers.AutoConfig.from_pretrained(
        folder, num_labels=3, id2label=NAMES, label2id={name: i for i, name in NAMES.items()}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def good_adapter(folder: Path, base: Path) -> Path:
    """A LoRA of rank 4 with its head on the base."""
    import peft

    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=3, id2label=NAMES, label2id={name: i for i, name in NAMES.items()},
        ignore_mismatched_sizes=True,
    )  # fmt: skip
    settings = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])
    peft.get_peft_model(model, settings).save_pretrained(folder)
    model.config.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def good_onnx(folder: Path) -> Path:
    """Somebody else's graph, a bag of words."""
    return tiny_onnx(folder)


def good_zero(run: Path, model: Path) -> Path:
    """A checkpoint of stage 2, one rank, of the model in a directory; as DeepSpeed lays it out."""
    trained = transformers.AutoModelForSequenceClassification.from_pretrained(model)
    shapes = OrderedDict((name, p.shape) for name, p in trained.named_parameters())
    flat = torch.cat([p.detach().flatten() for p in trained.parameters()])
    step = run / "checkpoint-2" / "global_step2"
    step.mkdir(parents=True)
    (step.parent / "latest").write_text("global_step2")
    optimizer = {"zero_stage": 2, "partition_count": 1, "single_partition_of_fp32_groups": [flat],
                 "base_optimizer_state": {"state": {}, "param_groups": []}}  # fmt: skip
    torch.save({"optimizer_state_dict": optimizer}, step / OPTIM)
    states = {"module": OrderedDict(trained.state_dict()), "buffer_names": [],
              "param_shapes": [shapes], "shared_params": {}, "global_steps": 2}  # fmt: skip
    torch.save(states, step / STATES)
    trained.config.save_pretrained(step.parent)
    transformers.AutoTokenizer.from_pretrained(model).save_pretrained(step.parent)
    return step.parent


def change_zero(checkpoint: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Load the file of the model in a checkpoint, change what it says, and write it again."""
    file = checkpoint / "global_step2" / STATES
    content = torch.load(file, weights_only=False)
    change(content)
    torch.save(content, file)


def repickle(file: Path, opcodes: bytes) -> None:
    """Replace the pickle in a file of torch's; the tensors beside it stay."""
    repack(file, pickled=opcodes)


def repack(file: Path, pickled: bytes | None = None, compression: int = zipfile.ZIP_STORED) -> None:
    """Write a file of torch's anew, with another pickle or compressed."""
    with zipfile.ZipFile(file) as before:
        members = {name: before.read(name) for name in before.namelist()}
    with zipfile.ZipFile(file, "w", compression) as after:
        for name, content in members.items():
            if pickled is not None and name.endswith("/data.pkl"):
                content = pickled
            after.writestr(name, content)


class Call:
    """Pickled, it calls a function when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


# ---------------------------------------------------------------- ZeRO, and pickles of weights


def expanded(checkpoint: Path) -> None:
    """One stored number that counts as 60 million."""

    def change(content: dict[str, Any]) -> None:
        content["module"]["position_ids"] = torch.zeros(1).expand(HUGE)
        content["buffer_names"] = ["position_ids"]

    change_zero(checkpoint, change)


def overlong_storage(checkpoint: Path) -> None:
    """A storage that says it has 60 million numbers, and four bytes in the file."""
    file = checkpoint / "global_step2" / STATES
    change_zero(
        checkpoint,
        lambda content: content.update(
            module={**content["module"], "more": torch.zeros(12345)}, buffer_names=["more"]
        ),
    )
    with zipfile.ZipFile(file) as archive:
        content = archive.read(next(n for n in archive.namelist() if n.endswith("/data.pkl")))
    # BININT2 12345 in the storage's size and in the tensor's shape.
    small, large = b"M" + (12345).to_bytes(2, "little"), b"J" + HUGE.to_bytes(4, "little")
    assert content.count(small) == 2
    repack(file, content.replace(small, large))


def called(function: Any, *arguments: Any) -> Callable[[Path], None]:
    """The pickle calls a harmless function of which the weights-only loader knows."""

    def attack(checkpoint: Path) -> None:
        class Pickler(pickle.Pickler):
            def persistent_id(self, obj: Any) -> None:
                return None

        stream = io.BytesIO()
        Pickler(stream, protocol=2).dump({"module": {}, "more": Call(function, *arguments)})
        repickle(checkpoint / "global_step2" / STATES, stream.getvalue())

    return attack


def hex_tower(checkpoint: Path) -> None:
    """26 calls that each double a text: 4 bytes become 250 MB."""
    body = b""
    for _ in range(26):
        body += b"c_codecs\nencode\n"
    inner = b"c_codecs\nencode\nX\x04\x00\x00\x00aaaaX\x06\x00\x00\x00latin1\x86R"
    rest = b"X\x09\x00\x00\x00hex_codec\x86R" * 26
    repickle(checkpoint / "global_step2" / STATES, b"\x80\x02" + body + inner + rest + b".")


def deflated(checkpoint: Path) -> None:
    """A text of 150 MB of one letter, compressed."""
    file = checkpoint / "global_step2" / STATES
    change_zero(checkpoint, lambda content: content.update(note="a" * 150_000_000))
    repack(file, compression=zipfile.ZIP_DEFLATED)


ZERO = {
    "expanded": expanded, "overlong_storage": overlong_storage,
    "bytearray": called(bytearray, 244_000_000), "hex_tower": hex_tower, "deflated": deflated,
}  # fmt: skip


# ---------------------------------------------------------------- configs


def set_in(file: str, **values: Any) -> Callable[[Path], None]:
    """Other values in a JSON file of a directory."""

    def attack(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**content, **values}))

    return attack


def pickled_weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        from safetensors.torch import load_file

        state = load_file(folder / "model.safetensors")
        change(state)
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()

    return attack


def one_expanded(state: dict[str, torch.Tensor]) -> None:
    name = "bert.embeddings.word_embeddings.weight"
    state[name] = torch.zeros(1, 1).expand(HUGE // 32, 32)


def deflated_bin(folder: Path) -> None:
    pickled_weights(lambda state: state.update(more=torch.zeros(40_000_000)))(folder)
    repack(folder / "pytorch_model.bin", compression=zipfile.ZIP_DEFLATED)


def replace_tower(folder: Path) -> None:
    """26 replacements in the tokenizer that each make two letters of one."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    steps = [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 24
    content["normalizer"] = {"type": "Sequence", "normalizers": steps}
    file.write_text(json.dumps(content))


MODEL = {
    "vocab_size": set_in("config.json", vocab_size=3_000_000),
    "hidden_size": set_in("config.json", hidden_size=8000, num_attention_heads=2),
    "intermediate_size": set_in("config.json", intermediate_size=2_000_000),
    "max_position_embeddings": set_in("config.json", max_position_embeddings=3_000_000),
    "num_hidden_layers": set_in("config.json", num_hidden_layers=20_000),
    "num_labels": set_in("config.json", id2label=None, label2id=None, num_labels=5_000_000),
    "bin_expanded": pickled_weights(one_expanded),
    "bin_deflated": deflated_bin,
    "tokenizer_replaces": replace_tower,
}  # fmt: skip
ADAPTER = {"rank": set_in("adapter_config.json", r=2_000_000)}


# ---------------------------------------------------------------- tables


def parquet(folder: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, folder / "rows.parquet", **options)
    return folder / "rows.parquet"


def repeated_rows(folder: Path) -> Path:
    """40 million rows of one text."""
    indices = pa.array(np.zeros(40_000_000, np.int8))
    text = pa.DictionaryArray.from_arrays(indices, ["good"])
    return parquet(folder, pa.table({"text": text, "label": text}), compression="zstd",
                   row_group_size=1 << 40, max_rows_per_page=1 << 40)  # fmt: skip


def long_texts(folder: Path) -> Path:
    """64 rows of one text of 10 million letters."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), ["a" * 10_000_000])
    label = pa.array(["good", "bad"] * 32)
    return parquet(folder, pa.table({"text": text, "label": label}), compression="zstd")


def one_long_text(folder: Path) -> Path:
    """One text of 500 million letters."""
    table = pa.table({"text": pa.array(["a" * 500_000_000, "b"]), "label": ["good", "bad"]})
    return parquet(folder, table, compression="zstd", use_dictionary=False)


def long_lists(folder: Path) -> Path:
    """A list of 20 million numbers in each of two rows."""
    values = pa.array([7], pa.int8()).take(pa.array([0] * 20_000_000, pa.int32()))
    lists = pa.ListArray.from_arrays(pa.array([0, 10_000_000, 20_000_000], pa.int32()), values)
    table = pa.table({"text": ["a", "b"], "label": ["good", "bad"], "more": lists})
    return parquet(folder, table, compression="zstd")


def odd_keys_lines(folder: Path) -> Path:
    """5000 rows with a name of their own each."""
    file = folder / "rows.jsonl"
    rows = [{"text": "a film", "label": "good", f"k{i}": 1} for i in range(5000)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def odd_keys_columns(folder: Path) -> Path:
    """3000 columns of one row each, another one for each."""
    file = folder / "rows.json"
    columns = {f"k{i}": {str(i): 1} for i in range(3000)}
    rows = {"text": {"0": "a"}, "label": {"0": "good"}}
    file.write_text(json.dumps({**rows, **columns}))
    return file


TABLES = {
    "parquet_repeated_rows": repeated_rows, "parquet_long_texts": long_texts,
    "parquet_one_long_text": one_long_text, "parquet_long_lists": long_lists,
    "json_odd_keys": odd_keys_lines,
    "json_odd_columns": odd_keys_columns,
}  # fmt: skip


# ---------------------------------------------------------------- ONNX


def graph(*nodes: Any, constants: list[Any] | None = None) -> Callable[[Path], None]:
    """A graph whose nodes make `extra`, a number that is added to the logits."""

    def attack(folder: Path) -> None:
        ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "length"])
               for name in ("input_ids", "attention_mask")]  # fmt: skip
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 3])
        axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
        ones = helper.make_tensor("ones", TensorProto.FLOAT, [1, 3], [1.0, 2.0, 3.0])
        every = [
            *nodes,
            helper.make_node("Cast", ["input_ids"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["numbers"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("MatMul", ["mean", "ones"], ["plain"]),
            helper.make_node("Add", ["plain", "extra"], ["logits"]),
        ]
        made = helper.make_graph(every, "bomb", ids, [logits], [axis, ones, *(constants or [])])
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.save(model, folder / "model.onnx")

    return attack


def _int64(name: str, *values: int) -> Any:
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], list(values))


MAX = helper.make_node("ReduceMax", ["big"], ["extra"], keepdims=0)
ONNX = {
    "constant_of_shape": graph(
        helper.make_node("ConstantOfShape", ["shape"], ["big"]), MAX,
        constants=[_int64("shape", 190_000_000)]),
    "expand_at_run": graph(
        helper.make_node("ReduceMax", ["input_ids"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["one"], to=TensorProto.FLOAT),
        helper.make_node("Expand", ["one", "shape"], ["big"]), MAX,
        constants=[_int64("shape", 190_000_000)]),
    "tile_at_run": graph(
        helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Tile", ["floats", "times"], ["big"]), MAX,
        constants=[_int64("times", 1, 40_000_000)]),
    "range": graph(
        helper.make_node("Range", ["start", "limit", "delta"], ["big"]), MAX,
        constants=[helper.make_tensor(n, TensorProto.FLOAT, [], [v])
                   for n, v in (("start", 0.0), ("limit", 1.5e8), ("delta", 1.0))]),
}  # fmt: skip
