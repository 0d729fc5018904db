"""Where a base model comes from: a directory, the hub's cache, a package, or the hub."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from safetensors import safe_open

from textassay.config.dotenv import hub_is_off
from textassay.errors import UsageError, first_line
from textassay.files import read_json, sha256_files, sha256_remembered
from textassay.links import refuse_links
from textassay.models.packaged import PACKAGED, find_change, packaged_folder
from textassay.models.pickled import read_state

# The key of our settings in a model's config.
SETTINGS_KEY = "textassay"
WANTED = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]
# Older models have no safetensors. Such pickles are read by torch's weights-only loader alone.
WEIGHTS_PICKLED = ["pytorch_model*.bin"]
HUB_TIMEOUT_SECONDS = 10.0
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Source:
    """A base model on disk: what it is called, where it lies, and how it was found.

    `revision` is the hub's commit, where it is known; else the revision that was asked for.
    """

    name: str
    path: Path
    origin: str
    revision: str | None = None

    def describe(self) -> dict[str, str]:
        """What a hallmark says of it; the revision where it is known."""
        known = {"revision": self.revision} if self.revision else {}
        return {"name": self.name, "weights": self.weights_hash(), **known}

    def weights_hash(self) -> str:
        """One hash over the weight files, which may be large (see `sha256_remembered`)."""
        return sha256_files(weight_files(self.path), sha256_remembered)

    def licence(self) -> str | None:
        """What its model card says, or its package's authors; None where nothing does."""
        if self.name in PACKAGED:
            return PACKAGED[self.name].licence
        card = self.path / "README.md"
        if not card.is_file():
            return None
        parts = card.read_text(encoding="utf-8", errors="replace").split("---")
        try:
            front = yaml.safe_load(parts[1]) if len(parts) > 2 and not parts[0].strip() else None
        except (yaml.YAMLError, ValueError, RecursionError):
            return None
        named = front.get("license") if isinstance(front, dict) else None
        # What is nested may be written in a few aliases and be endless as text.
        if isinstance(named, list) and all(isinstance(one, str) for one in named):
            return ", ".join(named)
        return named if isinstance(named, str) and named else None


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights; safetensors where there are any.

    UsageError where there are none, or where an index would have others loaded.
    """
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        files = sorted(folder.glob(pattern))
        if files:
            _refuse_other_shards(folder, pattern.replace("*", ""), {file.name for file in files})
            return files
    raise UsageError(
        f"{folder}: holds no model.safetensors and no pytorch_model.bin, so it is no base model."
    )


def _refuse_other_shards(folder: Path, whole: str, names: set[str]) -> None:
    """transformers loads what an index names, which need not be what is hashed here."""
    index = folder / f"{whole}.index.json"
    if whole in names or not index.is_file():
        return
    try:
        other = sorted({str(name) for name in read_json(index)["weight_map"].values()} - names)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{index}: does not say which file holds which weight.") from None
    if other:
        raise UsageError(
            f"{index}: names {other[0]}, which is not one of the weights in its folder "
            f"({', '.join(sorted(names)[:3])} …); get the whole model again."
        )


def checkpoint_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """{key: shape} of the weights in a folder."""
    return {key: shape for file in weight_files(folder) for key, shape in shapes_in(file).items()}


def shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """{key: shape} of a file of weights; no numbers are read.

    Raises what the safetensors library raises, or one of `pickled.BROKEN`.
    """
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as tensors:
            keys = tensors.keys()
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in keys}
    return {key: tuple(tensor.shape) for key, tensor in read_state(file).items()}


def find_model(name: str, revision: str | None = None) -> Source:
    """Resolve a directory or hub name: directory, local hub cache, packaged copy, hub.

    Never touches the network when `hub_is_off()`. Raises UsageError with what was tried.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UsageError(f"{name}: the directory has no config.json, so it is no model.")
        refuse_links(folder)
        return Source(str(folder.resolve()), folder, "local directory")
    tried = ["no such directory"]
    for look in (_in_cache, _in_package, _on_hub):
        found = look(name, revision)
        if isinstance(found, Source):
            return found
        tried.append(found)
    at = f" at the revision {revision}" if revision else ""
    raise UsageError(
        f"model.model_name_or_path: {name}{at} cannot be had ({'; '.join(tried)}). Name a "
        "directory that holds the model, or fetch it where there is a network and set HF_HOME to "
        "its cache."
    )


def _in_cache(name: str, revision: str | None) -> Source | str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(name, revision=revision, local_files_only=True)
    except HFValidationError:
        return "not a valid hub name"
    except (LocalEntryNotFoundError, OSError):
        return "not in the local hub cache"
    try:
        weight_files(Path(folder))
    except UsageError:
        return "only in part in the local hub cache"
    refuse_links(Path(folder))
    return Source(name, Path(folder), "local hub cache", commit_of(Path(folder)) or revision)


def commit_of(snapshot: Path) -> str | None:
    """The commit of a folder in the hub's cache; None where its name is none."""
    return snapshot.name if COMMIT.fullmatch(snapshot.name) else None


def _in_package(name: str, revision: str | None) -> Source | str:
    if name not in PACKAGED:
        return "in no package"
    carried = PACKAGED[name]
    if revision not in (None, carried.revision):
        return f"the package {carried.package} carries another revision"
    folder = packaged_folder(name, revision)
    if folder is None:
        return f"the package {carried.package} that carries it is not installed"
    change = find_change(folder, carried)
    if change:
        return f"in the package {carried.package} {change}"
    return Source(name, folder, f"package {carried.package}", carried.revision)


def _on_hub(name: str, revision: str | None) -> Source | str:
    if hub_is_off():
        return "HF_HUB_OFFLINE is set, so the hub was not asked"
    from huggingface_hub import HfApi, snapshot_download

    try:
        # This call does not retry, so a hub that cannot be reached costs seconds, not minutes.
        listed = HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS).siblings
        safe = any(file.rfilename.endswith(".safetensors") for file in listed or [])
        patterns = WANTED if safe else WANTED + WEIGHTS_PICKLED
        folder = snapshot_download(name, revision=revision, allow_patterns=patterns)
    except Exception as error:  # network, authorisation and hub errors of several libraries
        first = first_line(error)
        return f"the hub did not give it ({type(error).__name__}: {first[:160]})"
    return Source(name, Path(folder), "hub", commit_of(Path(folder)) or revision)


def config_folder(name: str, revision: str | None) -> Path | None:
    """The folder with a hub model's config.json, from the cache, else from the hub; weights are not
    fetched. None where neither has it.
    """
    from huggingface_hub import HfApi, hf_hub_download

    try:
        cached = hf_hub_download(name, "config.json", revision=revision, local_files_only=True)
        return Path(cached).parent
    except (OSError, ValueError):
        if hub_is_off():
            return None
    try:
        # As above: a download would try again and again where nothing answers.
        HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS)
        return Path(hf_hub_download(name, "config.json", revision=revision)).parent
    except Exception:  # network, authorisation and hub errors of several libraries
        return None
