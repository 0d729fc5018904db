"""How many parameters each job trains, from the real models' public shapes, without weights.

`public` are the shapes of the models' config.json on the hub. Every count stands as the formula
that it comes from, so that a change of a recipe or of a library shows.
"""

from typing import Any

import pytest
import torch
import transformers

from textassay.config.load import resolve_job
from textassay.data.catalog import read_entry
from textassay.files import project_root
from textassay.models.classifier import (
    BuiltClassifier,
    count_parameters,
    fresh_modules,
    input_settings,
    skeleton,
)
from textassay.models.methods import attach
from textassay.models.source import SETTINGS_KEY

BERT_ENGLISH, BERT_CHINESE = transformers.BertConfig(), transformers.BertConfig(vocab_size=21128)
MINILM = transformers.BertConfig(
    hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
)
GPT2_CHINESE = transformers.GPT2Config(
    vocab_size=21128, n_positions=1024, bos_token_id=None, eos_token_id=None
)
LLAMA_1B = transformers.LlamaConfig(
    vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
    num_attention_heads=32, num_key_value_heads=8, head_dim=64, tie_word_embeddings=True,
)  # fmt: skip
QWEN_1B5 = transformers.Qwen2Config(
    vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
    num_attention_heads=12, num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip


def lora(r: int, *shapes: tuple[int, int]) -> int:
    """A pair of matrices for each adapted layer: r * (inputs + outputs)."""
    return sum(r * (inputs + outputs) for inputs, outputs in shapes)


def linear(inputs: int, outputs: int) -> int:
    """Weights and biases."""
    return inputs * outputs + outputs


def bert(vocabulary: int, width: int = 768, layers: int = 12) -> int:
    """Embeddings with their norm, layers of 4 + 2 linear maps and 2 norms, and the pooler."""
    layer = 4 * linear(width, width) + linear(width, 4 * width) + linear(4 * width, width)
    embeddings = (vocabulary + 512 + 2) * width + 2 * width
    return embeddings + layers * (layer + 2 * 2 * width) + linear(width, width)


# GPT-2: token and position embeddings, layers (c_attn, c_proj, the MLP's two, 2 norms), last norm.
GPT2 = (21128 + 1024) * 768 + 12 * (
    linear(768, 3 * 768) + linear(768, 768) + linear(768, 3072) + linear(3072, 768) + 4 * 768
) + 2 * 768  # fmt: skip
# Llama: embeddings; q and o 2048 x 2048, k and v 2048 x 512, gate, up, down, 2 norms; last norm.
LLAMA = 128256 * 2048 + 16 * (2 * 2048**2 + 2 * 2048 * 512 + 3 * 2048 * 8192 + 2 * 2048) + 2048
# Qwen2: q and o 1536 x 1536, k and v 1536 x 256, biases on q, k and v.
QWEN = 151936 * 1536 + 28 * (
    2 * 1536**2 + 2 * 1536 * 256 + 1536 + 2 * 256 + 3 * 1536 * 8960 + 2 * 1536
) + 1536  # fmt: skip

# LoRA r 8 on query and value: 294,912. The head: 3,845.
YELP = 12 * 2 * lora(8, (768, 768)) + linear(768, 5)
# By layer: query and value r 16, key and the attention's dense r 8, the wide ones r 8; DoRA adds a
# magnitude for each output of every adapted layer.
EMOTION = 12 * (
    2 * lora(16, (768, 768)) + 2 * lora(8, (768, 768)) + lora(8, (768, 3072), (3072, 768))
    + 5 * 768 + 3072
) + linear(768, 19)  # fmt: skip
# After each of 12 blocks 768 -> 64 -> 768 with biases: 1,189,632. GPT-2's head has no bias.
ADAPTER = 12 * (linear(768, 64) + linear(64, 768)) + 768 * 2
# c_attn 768 -> 2304 and the attention's c_proj: 442,368, and the head's 1,536. The 443,904 that is
# documented as being without the head is therefore with it; 442,368 is without.
WEIBO_LORA = 12 * lora(8, (768, 2304), (768, 768)) + 768 * 2
# All seven projections, r 64: 45,088,768. The head: 2048 -> 512 -> 256 -> labels.
LLAMA_LORA = 16 * lora(
    64, (2048, 2048), (2048, 512), (2048, 512), (2048, 2048), (2048, 8192), (2048, 8192),
    (8192, 2048),
)  # fmt: skip
QWEN_LORA = 28 * lora(8, (1536, 1536), (1536, 256), (1536, 256), (1536, 1536)) + 1536 * 2


# MiniLM: width 384, six layers. Its pooler is trained whole, so that it stands there twice.
POOLER = linear(384, 384)


def minilm_lora(r: int, labels: int, pooler: int = POOLER) -> int:
    """By layer: query, key, value and the attention's dense, then the wide ones; pooler, head."""
    layer = 4 * lora(r, (384, 384)) + lora(r, (384, 1536), (1536, 384))
    return 6 * layer + pooler + linear(384, labels)


# A bare `dense` is the pooler's as well. DoRA: a magnitude for each output of the adapted layers.
MINILM_LORA = minilm_lora(32, 2, lora(32, (384, 384)))
MINILM_DORA = MINILM_LORA + 6 * (5 * 384 + 1536) + 384
MINILM_ADAPTER = 6 * (linear(384, 64) + linear(64, 384)) + POOLER + linear(384, 2)


def mlp(labels: int) -> int:
    """The head of three linear layers on 2048 inputs."""
    return linear(2048, 512) + linear(512, 256) + linear(256, labels)


def minilm(trainable: int, labels: int) -> tuple[int, int]:
    """(trainable, all) of a MiniLM with an adapter."""
    return trainable, bert(30522, 384, 6) + trainable + linear(384, labels)


# job: (public shape, trainable, all). PEFT keeps the untrained original of a head beside its copy.
COUNTS: dict[str, tuple[Any, int, int]] = {
    "yelp5_bert_lora": (BERT_ENGLISH, YELP, bert(30522) + YELP + linear(768, 5)),
    "emotion19_bert_dora_rslora": (
        BERT_CHINESE, EMOTION, bert(21128) + EMOTION + linear(768, 19),
    ),
    "weibo_gpt2_adapter": (GPT2_CHINESE, ADAPTER, GPT2 + ADAPTER + 768 * 2),
    "weibo_gpt2_lora": (GPT2_CHINESE, WEIBO_LORA, GPT2 + WEIBO_LORA + 768 * 2),
    "weibo_bert_full": (BERT_CHINESE, *2 * (bert(21128) + linear(768, 2),)),
    "sst2_llama_full": (LLAMA_1B, *2 * (LLAMA + 2048 * 2,)),
    "r8_llama_full": (LLAMA_1B, *2 * (LLAMA + 2048 * 8,)),
    "sst2_llama_deepspeed": (LLAMA_1B, *2 * (LLAMA + 2048 * 2,)),
    "r8_llama_deepspeed": (LLAMA_1B, *2 * (LLAMA + 2048 * 8,)),
    "sst2_llama_lora": (LLAMA_1B, LLAMA_LORA + mlp(2), LLAMA + LLAMA_LORA + 2 * mlp(2)),
    "r8_llama_lora": (LLAMA_1B, LLAMA_LORA + mlp(8), LLAMA + LLAMA_LORA + 2 * mlp(8)),
    "chnsenticorp_qwen_lora": (QWEN_1B5, QWEN_LORA, QWEN + QWEN_LORA + 1536 * 2),
    "chnsenticorp_qwen_qlora": (QWEN_1B5, QWEN_LORA, QWEN + QWEN_LORA + 1536 * 2),
    "sst2_minilm_full": (MINILM, *2 * (bert(30522, 384, 6) + linear(384, 2),)),
    "sst2_minilm_deepspeed": (MINILM, *2 * (bert(30522, 384, 6) + linear(384, 2),)),
    "sst2_minilm_lora": (MINILM, *minilm(MINILM_LORA, 2)),
    "sst2_minilm_dora": (MINILM, *minilm(MINILM_DORA, 2)),
    "sst2_minilm_bottleneck": (MINILM, *minilm(MINILM_ADAPTER, 2)),
    "r8_minilm_lora": (MINILM, *minilm(minilm_lora(16, 8), 8)),
    "sst5_minilm_lora": (MINILM, *minilm(minilm_lora(8, 5), 5)),
}  # fmt: skip
WRITTEN_OUT = {
    "yelp5_bert_lora": (298_757, 109_784_842),
    "emotion19_bert_dora_rslora": (1_719_571, 104_001_830),
    "weibo_gpt2_adapter": (1_191_168, 103_261_440),
    "weibo_gpt2_lora": (443_904, 102_514_176),
    "weibo_bert_full": (102_269_186, 102_269_186),
    "sst2_llama_full": (1_235_818_496, 1_235_818_496),
    "r8_llama_full": (1_235_830_784, 1_235_830_784),
    "sst2_llama_deepspeed": (1_235_818_496, 1_235_818_496),
    "r8_llama_deepspeed": (1_235_830_784, 1_235_830_784),
    "sst2_llama_lora": (46_269_698, 1_283_265_028),
    "r8_llama_lora": (46_271_240, 1_283_268_112),
    "chnsenticorp_qwen_lora": (2_182_144, 1_545_899_520),
    "chnsenticorp_qwen_qlora": (2_182_144, 1_545_899_520),
    "sst2_minilm_full": (22_713_986, 22_713_986),
    "sst2_minilm_deepspeed": (22_713_986, 22_713_986),
    "sst2_minilm_lora": (1_352_450, 24_066_436),
    "sst2_minilm_dora": (1_373_570, 24_087_556),
    "sst2_minilm_bottleneck": (446_210, 23_160_196),
    "r8_minilm_lora": (814_472, 23_530_768),
    "sst5_minilm_lora": (481_541, 23_196_682),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_job_trains_exactly_so_many_parameters(name: str) -> None:
    public, trainable, total = COUNTS[name]
    assert count(name, public) == (trainable, total) == WRITTEN_OUT[name]


def test_every_job_is_counted() -> None:
    jobs = {path.stem for path in (project_root() / "jobs").glob("*.yaml")}
    assert jobs - {"quickstart"} == COUNTS.keys()


def test_the_share_of_yelp_is_the_documented_one() -> None:
    trainable, total = WRITTEN_OUT["yelp5_bert_lora"]
    assert f"{trainable / total:.4%}" == "0.2721%"


def test_a_bare_c_proj_would_have_caught_the_mlp_as_well() -> None:
    bare = count("weibo_gpt2_lora", GPT2_CHINESE, {"method.target_modules": "c_attn,c_proj"})
    assert bare[0] == WEIBO_LORA + 12 * lora(8, (3072, 768)) == 812_544


def count(name: str, public: Any, overrides: dict[str, Any] | None = None) -> tuple[int, int]:
    """(trainable, all) parameters of a job on a model of this shape."""
    job_file = project_root() / "jobs" / f"{name}.yaml"
    # The count is of numbers, not of bytes, and 4 bits cannot be laid out without weights.
    settings = {"model.load_in_4bit": "false", **(overrides or {})}
    job, _ = resolve_job(job_file, None, {}, settings, None)
    labels = read_entry(job.data.name or "").labels
    config = type(public)(**{**public.to_dict(), "num_labels": len(labels or [])})
    setattr(config, SETTINGS_KEY, input_settings(job.model, None))
    with torch.device("meta"):
        checkpoint = transformers.AutoModel.from_config(public)
    shapes = {key: tensor.shape for key, tensor in checkpoint.state_dict().items()}
    model = skeleton(config)
    built = BuiltClassifier(model, None, fresh_modules(model, shapes, name))
    return count_parameters(attach(built, job.method, name))
