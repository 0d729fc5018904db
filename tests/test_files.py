"""Files appear whole or not at all, and a hash changes when the content does."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textassay import files
from textassay.errors import GateError
from textassay.files import (
    cache_dir,
    project_root,
    read_json,
    replacing,
    sha256_file,
    sha256_files,
    sha256_remembered,
    sha256_text,
    write_json,
    write_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('aé好\n"\\'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab好"), inner),
    max_leaves=8,
)
PARTS = st.lists(st.text("ab\0", max_size=4), max_size=4)


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_is_replaced_when_the_block_succeeds(before, tmp_path):
    path = tmp_path / "new" / "a.txt"
    if before:
        write_text(path, before)
    with replacing(path) as scratch:
        scratch.write_text("new")
        assert path.exists() == bool(before)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_what_was_there(before, error, tmp_path):
    path = tmp_path / "a.txt"
    if before:
        write_text(path, before)
    with pytest.raises(error), replacing(path) as scratch:
        scratch.write_text("half of the ne")
        raise error
    assert [p.read_text() for p in tmp_path.iterdir()] == ([before] if before else [])


def test_an_error_names_the_path_and_not_the_scratch_path(tmp_path):
    with pytest.raises(GateError) as refused, replacing(tmp_path / "onnx") as scratch:
        raise GateError(f"{scratch}: is not {scratch.parent / 'plain.onnx'}.")
    assert str(refused.value) == f"{tmp_path / 'onnx'}: is not {tmp_path / 'plain.onnx'}."


def test_a_block_that_writes_nothing_does_not_lose_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


@pytest.mark.parametrize("before", ["nothing", "a file", "a directory"])
def test_a_directory_takes_the_place_of_what_was_there(before, tmp_path):
    path = tmp_path / "model"
    if before == "a file":
        path.write_text("old")
    if before == "a directory":
        write_text(path / "old.txt", "old")
    with replacing(path) as scratch:
        scratch.mkdir()
        (scratch / "new.txt").write_text("new")
    assert [p.name for p in path.iterdir()] == ["new.txt"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fails", ["to move the new one", "between the two"])
def test_of_two_renames_the_second_may_fail(fails, tmp_path, monkeypatch):
    path, rename = tmp_path / "model", Path.rename
    write_text(path / "old.txt", "old")

    def interrupted(self, target):
        rename(self, target)
        if self == path:
            raise KeyboardInterrupt

    def refuse(self, target):
        raise OSError(5, "Input/output error", str(self))

    if fails == "between the two":
        monkeypatch.setattr(Path, "rename", interrupted)
    else:
        monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises((OSError, KeyboardInterrupt)), replacing(path) as scratch:
        scratch.mkdir()
    assert [p.name for p in path.iterdir()] == ["old.txt"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_directory_leaves_the_old_one(tmp_path):
    path = tmp_path / "model"
    write_text(path / "old.txt", "old")
    with pytest.raises(ValueError), replacing(path) as scratch:
        scratch.mkdir()
        raise ValueError
    assert [p.name for p in path.iterdir()] == ["old.txt"]
    assert list(tmp_path.iterdir()) == [path]


@given(content=JSON)
def test_json_comes_back_as_it_was_written(content, tmp_path):
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content


def test_json_is_readable_by_people(tmp_path):
    write_json(tmp_path / "a.json", {"label": "高兴"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "label": "高兴"\n}\n'


@given(content=st.binary())
def test_the_hash_of_a_file_is_that_of_its_bytes(content, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    assert sha256_file(path) == "sha256:" + hashlib.sha256(content).hexdigest()
    assert sha256_files([path]) == sha256_file(path)


def test_the_hash_of_several_files_minds_names_and_contents_but_not_their_order(write):
    one, two = write("x/1.bin", "one"), write("x/2.bin", "two")
    both = sha256_files([one, two])
    assert sha256_files([two, one]) == both
    swapped = sha256_files([write("y/1.bin", "two"), write("y/2.bin", "one")])
    renamed = sha256_files([write("z/1.bin", "one"), write("z/3.bin", "two")])
    assert len({both, swapped, renamed, sha256_file(one), sha256_file(two)}) == 5
    assert sha256_files([write("w/1.bin", "one"), write("w/2.bin", "two")]) == both


@pytest.fixture
def weights(write, tmp_path, monkeypatch):
    """A file that has not changed for a while, for the clock that we look at."""
    monkeypatch.setenv("TEXTASSAY_CACHE", str(tmp_path / "cache"))
    path = write("model.safetensors", "weights")
    monkeypatch.setattr(files.time, "time", lambda: path.stat().st_ctime + 10)
    return path


def test_a_large_file_is_read_once(weights, monkeypatch):
    expected = sha256_file(weights)
    assert sha256_remembered(weights) == expected
    monkeypatch.setattr(files, "sha256_file", None)
    assert sha256_remembered(weights) == expected


@pytest.mark.parametrize("how", ["written over", "replaced"])
def test_a_changed_file_is_read_again_even_with_its_old_times(how, weights, tmp_path):
    before = weights.stat()
    sha256_remembered(weights)
    if how == "replaced":
        (tmp_path / "other").write_text("stheigw")
        (tmp_path / "other").replace(weights)
    else:
        weights.write_text("stheigw")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sha256_remembered(weights) == sha256_file(weights)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"file": 1}'])
def test_a_broken_memory_is_written_anew(content, weights):
    sha256_remembered(weights)
    [memory] = (weights.parent / "cache" / "hashes").iterdir()
    memory.write_text(content)
    assert sha256_remembered(weights) == sha256_file(weights)
    assert read_json(memory)["sha256"] == sha256_file(weights)


def test_a_file_that_changed_a_moment_ago_is_not_remembered(write, tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTASSAY_CACHE", str(tmp_path / "cache"))
    sha256_remembered(write("model.safetensors", "weights"))
    assert not any((tmp_path / "cache" / "hashes").iterdir())


@given(PARTS, PARTS)
def test_the_hash_of_texts_tells_where_one_ends_and_the_next_begins(one, other):
    assert (sha256_text(*one) == sha256_text(*other)) == (one == other)


def test_half_a_surrogate_pair_can_be_hashed():
    assert sha256_text("\ud83d") != sha256_text("\ud83e")


def test_the_known_folders_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("TEXTASSAY_HOME", raising=False)
    monkeypatch.delenv("TEXTASSAY_CACHE", raising=False)
    assert (project_root() / "pyproject.toml").is_file()
    assert cache_dir() == Path.home() / ".cache" / "textassay"
    monkeypatch.setenv("TEXTASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TEXTASSAY_CACHE", str(tmp_path / "cache"))
    assert (project_root(), cache_dir()) == (tmp_path / "home", tmp_path / "cache")


def test_of_two_files_the_one_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    closed, rename = tmp_path / "closed", Path.replace

    def refuse(self, target):
        if Path(target).parent == closed:
            raise PermissionError(13, "Permission denied", str(self), None, str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError) as caught, replacing(tmp_path / "outer.csv") as outer:
        outer.write_text("rows")
        write_text(closed / "inner.json", "{}")
    assert caught.value.filename == str(closed / "inner.json")
    assert not (tmp_path / "outer.csv").exists()


def test_a_folder_that_takes_no_files_is_an_error_about_the_file(tmp_path, monkeypatch):
    def refuse(**given):
        raise PermissionError(13, "Permission denied", str(tmp_path / ".x.csv.ab12"))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(PermissionError) as caught:
        write_text(tmp_path / "x.csv", "rows")
    assert caught.value.filename == str(tmp_path / "x.csv")


@pytest.mark.parametrize("name", ["TEXTASSAY_CACHE", "TEXTASSAY_HOME", "TEXTASSAY_DATA_DIR"])
def test_a_tilde_in_a_variable_is_the_users_home(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In quotes, and in files of environments, no shell has said so: ~ was a folder's name."""
    from textassay.data.catalog import read_entry

    (tmp_path / "there" / "r8").mkdir(parents=True)
    found = {
        "TEXTASSAY_CACHE": cache_dir,
        "TEXTASSAY_HOME": project_root,
        "TEXTASSAY_DATA_DIR": lambda: (read_entry("r8").local_folder() or tmp_path).parent,
    }
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(name, "~/there")
    monkeypatch.chdir(tmp_path)
    assert found[name]() == tmp_path / "there"
