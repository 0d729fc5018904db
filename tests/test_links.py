"""Which links lead out of a folder."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from textassay.errors import GateError
from textassay.links import is_own_file, refuse_link, refuse_links


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A folder of files, in which some links stay, beside what belongs to somebody else."""
    folder = tmp_path / "artifact"
    (folder / "below").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "below" / "vocab.txt").write_text("a")
    (folder / "vocab.txt").symlink_to("below/vocab.txt")
    (folder / "absolute.txt").symlink_to(folder / "config.json")
    (folder / "loop").symlink_to("loop")
    (folder / "missing.txt").symlink_to("nowhere.txt")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "id_rsa").write_text("PRIVATE")
    return folder


def link(name: str, target: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).symlink_to(target.format(secret=folder.parent / "secret"))

    return change


def chain(folder: Path) -> None:
    """Each link but the last one stays inside."""
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("below/c")
    (folder / "below" / "c").symlink_to("../../secret/id_rsa")


def through_a_folder(folder: Path) -> None:
    """A link to a file inside of what is a linked folder."""
    (folder / "door").symlink_to("../secret")
    (folder / "chat_template.jinja").symlink_to("door/id_rsa")


LEADING_OUT = {
    "a folder": link("assets", "../secret"),
    "a file": link("chat_template.jinja", "../secret/id_rsa"),
    "an absolute path": link("tokenizer.json", "{secret}/id_rsa"),
    "a file below": link("onnx/model.onnx", "../../secret/id_rsa"),
    "a chain": chain,
    "a folder on the way": through_a_folder,
    "nowhere, outside": link("vocab.json", "../secret/not-yet"),
    "the folder above": link("up", ".."),
    "a folder of a similar name": link("like", "../artifact-2/x"),
    "a device": link("merges.txt", "/dev/zero"),
}


@pytest.mark.parametrize("change", LEADING_OUT.values(), ids=LEADING_OUT)
def test_a_link_that_leads_out_is_refused(
    change: Callable[[Path], object], artifact: Path, tmp_path: Path
) -> None:
    refuse_links(artifact)
    change(artifact)
    with pytest.raises(GateError, match=r"is a link to /.*, outside this folder") as refused:
        refuse_links(artifact)
    assert len(str(refused.value)) < 600 + len(str(artifact)) * 2
    # The folder itself may be a link.
    (tmp_path / "named").symlink_to(artifact)
    with pytest.raises(GateError, match="outside this folder"):
        refuse_links(tmp_path / "named")


def test_what_is_no_file_is_refused(artifact: Path) -> None:
    os.mkfifo(artifact / "chat_template.jinja")
    with pytest.raises(GateError, match=r"chat_template\.jinja is a pipe or a device"):
        refuse_links(artifact)


def test_links_inside_and_the_folder_itself_are_no_matter(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "named").symlink_to(artifact)
    for folder in (artifact, tmp_path / "named"):
        refuse_links(folder)
        assert is_own_file(folder / "vocab.txt", folder)
        assert is_own_file(folder / "absolute.txt", folder)
        for name in ("loop", "missing.txt", "below", "nowhere.txt"):
            assert not is_own_file(folder / name, folder)
            refuse_link(folder / name, folder)


def test_nothing_is_sought_in_hidden_folders(artifact: Path) -> None:
    (artifact / ".venv").mkdir()
    (artifact / ".venv" / "python").symlink_to("/usr/bin/env")
    refuse_links(artifact)
    (artifact / ".cache").symlink_to("../secret")
    with pytest.raises(GateError, match=r"\.cache is a link"):
        refuse_links(artifact)


def test_the_blobs_of_the_hubs_cache_are_its_files(tmp_path: Path) -> None:
    model = tmp_path / "hub" / "models--me--classifier"
    snapshot, blobs = model / "snapshots" / "abc", model / "blobs"
    (snapshot / "onnx").mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1234").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/1234")
    (snapshot / "onnx" / "model.onnx").symlink_to("../../../blobs/1234")
    refuse_links(snapshot)
    refuse_links(snapshot / "onnx")
    assert is_own_file(snapshot / "config.json", snapshot)
    (tmp_path / "link").symlink_to(snapshot)
    refuse_links(tmp_path / "link")


def test_what_only_looks_like_the_hubs_cache_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "id_rsa").write_text("PRIVATE")
    snapshot = tmp_path / "theirs" / "models--me--classifier" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    blobs = snapshot.parent.parent / "blobs"
    blobs.symlink_to("../../secret")
    (snapshot / "config.json").symlink_to("../../blobs/id_rsa")
    with pytest.raises(GateError, match="outside this folder"):
        refuse_links(snapshot)
    blobs.unlink()
    blobs.mkdir()
    (blobs / "1").symlink_to("../../../secret/id_rsa")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("../../blobs/1")
    with pytest.raises(GateError, match="outside this folder"):
        refuse_links(snapshot)
    # Blobs are no folder's own but a snapshot's.
    plain = tmp_path / "snapshots" / "model"
    plain.mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1").write_text("PRIVATE")
    (plain / "config.json").symlink_to("../../blobs/1")
    with pytest.raises(GateError, match="outside this folder"):
        refuse_links(plain)
