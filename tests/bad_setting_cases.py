"""Settings, job files and models that must be refused; the data are good in all of them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bad_input_cases import DATA, NOISE, TRAIN, USAGE, Refused

GOOD = {"data.csv": TRAIN}
JOB = "data: {path: data.csv}\n"


def flags(name: str, given: str | list[str], *says: str, **more: str) -> Refused:
    """Flags that cannot be."""
    extra = given if isinstance(given, list) else given.split()
    return Refused(name, [*DATA.split(), *extra], USAGE, says, GOOD, **more)


def job(name: str, content: str | bytes, *says: str, **more: str) -> Refused:
    """A job file that cannot be; its name must be in the message."""
    files = {**GOOD, "my.yaml": content}
    return Refused(name, "my.yaml", USAGE, ("my.yaml", *says), files, **more)


def environment(name: str, variables: dict[str, str], *says: str, **more: str) -> Refused:
    """Variables that cannot be."""
    return Refused(name, DATA, USAGE, says, GOOD, variables, **more)


@dataclass(frozen=True)
class Broken:
    """A base model spoilt by `spoil(folder)`, and what the refusal must say."""

    name: str
    spoil: Callable[[Path], object]
    says: tuple[str, ...]


def _edit(**changes: object) -> Callable[[Path], object]:
    """A spoiler that sets keys of the model's config.json."""

    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def _halve(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def _without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


MODELS = [
    Broken("empty", lambda folder: [path.unlink() for path in folder.iterdir()],
           ("no config.json", "so it is no model")),
    Broken("an adapter", lambda folder: shutil.move(folder / "config.json",
           folder / "adapter_config.json"), ("no config.json",)),
    Broken("config that is not JSON", lambda folder: (folder / "config.json").write_text("{"),
           ("config.json",)),
    Broken("an architecture that nobody knows", _edit(model_type="bird"), ("bird",)),
    Broken("a model of pictures", _edit(model_type="vit"), ("vit",)),
    Broken("weights of another size", _edit(hidden_size=48), ("do not fit its config",)),
    Broken("no tokenizer", _without_tokenizer, ("tokenizer",)),
    Broken("a tokenizer that is not JSON", lambda folder: (folder / "tokenizer.json")
           .write_text("{"), ("tokenizer",)),
    Broken("no weights", lambda folder: (folder / "model.safetensors").unlink(),
           ("model.safetensors",)),
    Broken("half of the weights", _halve, ("model.safetensors",)),
    Broken("weights of random bytes", lambda folder: (folder / "model.safetensors")
           .write_bytes(NOISE), ("model.safetensors",)),
]  # fmt: skip

TRAINING = [
    flags("negative learning rate", "--learning_rate -1e-4", "flag: training.learning_rate",
          "greater than 0", "-1e-4"),
    flags("a learning rate that is no number", "--learning-rate nan", "training.learning_rate"),
    flags("a learning rate that is a word", "--learning_rate fast", "training.learning_rate",
          "number", "'fast'"),
    flags("zero epochs", "--num_train_epochs 0", "training.num_train_epochs", "random head"),
    flags("zero epochs by another name", "--epochs 0", "training.num_train_epochs"),
    flags("zero steps", "--max_steps 0", "training.max_steps"),
    flags("zero batch size", "--batch_size 0", "training.per_device_train_batch_size",
          "greater than or equal to 1"),
    flags("half a batch", "--per_device_train_batch_size 1.5",
          "training.per_device_train_batch_size", "integer"),
    flags("empty seeds", ["--seeds", ""], "seeds", "at least 1"),
    flags("a seed twice", "--seeds 1,1", "seeds", "named twice"),
    flags("a negative seed", "--seed -1", "seeds", "between 0 and"),
    flags("a seed that is a word", "--seed luck", "seeds", "integer"),
    flags("unknown metric", "--metric_for_best_model makro_f1", "training.metric_for_best_model",
          "'makro_f1'", "did you mean macro_f1?"),
    flags("unknown scheduler", "--lr_scheduler_type liniar", "training", "liniar"),
    flags("unknown optimizer", "--optim adamm", "training", "adamm"),
    flags("an optimizer that is not installed", "--optim lomo", "lomo"),
    flags("negative workers", "--dataloader_num_workers -1", "num_workers"),
    flags("workers that cannot persist", "--dataloader_persistent_workers", "num_workers > 0"),
    flags("a schedule that lacks an argument", "--lr_scheduler_type cosine_with_min_lr",
          "training.lr_scheduler_type", "min_lr"),
    flags("a schedule that lacks another", "--lr_scheduler_type warmup_stable_decay",
          "training.lr_scheduler_type", "num_decay_steps"),
    flags("an argument that no schedule has", ["--lr_scheduler_kwargs", '{"foo": 1}'],
          "lr_scheduler_kwargs", "foo"),
    flags("an argument that fails at a later step", ["--lr_scheduler_type", "cosine",
          "--lr_scheduler_kwargs", '{"num_cycles": "many"}'], "lr_scheduler_kwargs", "many"),
    flags("an optimizer's argument that it does not take", "--optim adagrad --optim_args foo=1",
          "training.optim", "foo=1"),
    flags("checkpointing that torch does not know", ["--gradient_checkpointing",
          "--gradient_checkpointing_kwargs", '{"foo": 1}'], "gradient_checkpointing_kwargs", "foo"),
    flags("a kernel that is not installed", "--use_liger_kernel", "use_liger_kernel",
          "not installed"),
    flags("an evaluation behind the end", "--eval_delay 1000", "training.eval_delay",
          "1000 epochs"),
    flags("batches that are all dropped", "--dataloader_drop_last --batch_size 1000",
          "dataloader_drop_last"),
    flags("the wrong direction", "--greater_is_better false", "training.greater_is_better",
          "always true with metric_for_best_model macro_f1"),
    flags("no predictions to choose by", "--prediction_loss_only", "prediction_loss_only",
          "always false"),
    flags("an upload", "--push_to_hub", "push_to_hub", "hf upload"),
    flags("shards by FSDP", "--fsdp full_shard", "fsdp", "launcher: deepspeed"),
    flags("a tracker that is not installed", "--report_to wandb", "report_to", "wandb"),
    flags("an unknown tracker", "--report_to nobody", "report_to", "nobody"),
    flags("fp16 on a CPU", "--fp16 --device cpu", "training.precision", "fp16 needs a GPU"),
    flags("two precisions", "--fp16 --bf16", "contradict each other"),
    flags("a switch that is neither on nor off", "--gradient_checkpointing maybe",
          "training.gradient_checkpointing", "maybe"),
    flags("no such checkpoint", "--resume_from_checkpoint nowhere", "--resume_from_checkpoint",
          "nowhere", "no complete checkpoint"),
    flags("a confidence above one", "--confidence 95", "evaluation.confidence", "less than 1"),
]  # fmt: skip

DATA_AND_METHOD = [
    flags("a prompt without {text}", ["--prompt", "Is this good?"], "data.prompt", "{text}"),
    flags("a prompt longer than the model", ["--prompt", "good film? " * 40 + "{text}",
          "--max_seq_length", "16"], "model.max_seq_length", "the prompt alone takes"),
    flags("a text of no tokens", "--max_seq_length 0", "model.max_seq_length"),
    flags("a text longer than the model", "--max_seq_length 65", "model.max_seq_length", "65",
          "64 positions"),
    flags("no rows at all", "--max_samples 0", "data.max_samples"),
    flags("an unknown data set", "--data_name sst22", "data.name", "'sst22'", "did you mean sst2?"),
    flags("unknown method", "--method lorra", "method", "'lorra'", "did you mean lora?"),
    flags("the method of another launcher", "--method full", "lora", "full"),
    flags("a rank of zero", "--lora_r 0", "method", "lora", "`r`"),
    flags("a rank that is a word", "--lora_r big", "method", "'big'"),
    flags("a dropout of two", "--lora_dropout 2", "method", "dropout"),
    flags("modules that the model does not have", "--target_modules q_proj,v_proj", "method",
          "linear modules", "query"),
    flags("a module to save that the model does not have", "--modules_to_save poolr",
          "method.modules_to_save", "poolr", "did you mean pooler?"),
    flags("one module of two that the model does not have", "--target_modules query,valeu",
          "method.target_modules", "valeu", "did you mean value?"),
    flags("a module to leave out that is not there", "--exclude_modules nothing",
          "method.exclude_modules", "nothing"),
    flags("a layer that the model does not have", "--layers_to_transform 0,9",
          "method.layers_to_transform", "no layer 9", "0 to 1"),
    flags("a parameter that the model does not have", "--target_parameters foo",
          "method.target_parameters", "foo"),
    flags("the rank of a module without an adapter", ["--rank_pattern", '{"dense": 4}'],
          "method.rank_pattern", "dense", "query, value"),
    flags("an adapter that adds nothing", "--lora_alpha 0", "method.lora_alpha", "more than 0"),
    flags("an adapter that is dropped", "--lora_dropout 1", "method.lora_dropout", "less than 1"),
    flags("a dropout by another name", "--method loha --rank_dropout 1.0", "method.rank_dropout",
          "less than 1"),
    flags("no virtual tokens", "--method prompt_tuning", "num_virtual_tokens", "prompt_tuning"),
    flags("a start that is computed of data", "--init_lora_weights eva", "init_lora_weights",
          "eva"),
    flags("a method that wants more than texts", "--method poly --target_modules query",
          "method: poly", "does not classify a text"),
    flags("a pattern that is none", "--exclude_modules [", "no regular expression"),
    flags("fields of another method", "--method ia3 --lora_r 8", "method ia3"),
]  # fmt: skip

DEVICES = [
    flags("cuda without a GPU", "--device cuda", "resources.device", "cuda was asked for"),
    environment("an allotted GPU that is not there", {"CUDA_VISIBLE_DEVICES": "0"},
                "resources.device", "CUDA_VISIBLE_DEVICES=0", "--device cpu"),
    environment("a GPU allotted by Slurm that is not there", {"SLURM_JOB_GPUS": "0"},
                "resources.device", "SLURM_JOB_GPUS=0"),
]  # fmt: skip

JOBS = [
    Refused("no such job", "nothing.yaml", USAGE, ("nothing.yaml", "no such job file")),
    Refused("a folder that is no data", "d", 65, ("d: has no file for train",),
            {"d/notes.csv": TRAIN}),
    job("a misspelt key", JOB + "training: {learning_rte: 1.0e-4}\n", "learning_rte",
        "did you mean learning_rate?"),
    job("a misspelt key of the data", "data: {pth: data.csv}\n", "data.pth",
        "did you mean path?"),
    job("a misspelt section", JOB + "trainning: {learning_rate: 1.0e-4}\n", "trainning",
        "did you mean training?"),
    job("a misspelt method setting", JOB + "method: {lora_alhpa: 4}\n", "lora_alhpa",
        "did you mean lora_alpha?"),
    job("not YAML", "data: {path: data.csv\n", "not readable as YAML"),
    job("binary", b"\x00\x01\x02\xff" * 50, "not readable as YAML"),
    job("a program in YAML", "data: !!python/object/apply:os.system [touch out]\n", "YAML"),
    job("a list", "- data\n- model\n", "maps names to settings"),
    job("a section that is a word", JOB + "method: lora\n", "method is a section"),
    job("a list where a word goes", "data: {path: [data.csv]}\n", "data.path", "string"),
    job("a key that is a number", JOB + "training: {1: 2}\n", "training", "1"),
    job("a name that is a path", JOB + "name: ../elsewhere\n", "name"),
    job("the job of another launcher", JOB + "launcher: full\n", "full launcher", "textassay "),
    job("a seed elsewhere", JOB + "training: {seed: 1}\n", "seed", "`seeds`"),
]  # fmt: skip

ENVIRONMENT = [
    environment("a misspelt variable", {"TEXTASSAY_TRAINING__LEARNING_RTE": "1"}, "environment",
                "learning_rte", "did you mean learning_rate?"),
    environment("a misspelt section", {"TEXTASSAY_TRAINNING__LEARNING_RATE": "1"}, "environment",
                "did you mean training?"),
    Refused("no such env file", f"{DATA} --env_file my.env", USAGE, ("my.env", "no such file"),
            GOOD),
    Refused("a binary env file", f"{DATA} --env_file my.env", USAGE, ("my.env",),
            {**GOOD, "my.env": b"\xff\xfe\x00A=\x81"}),
]  # fmt: skip

ALL = [*TRAINING, *DATA_AND_METHOD, *JOBS, *ENVIRONMENT]
