"""Folders in the shared temporary directory are nobody else's, and go with their process."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from textassay import temporary
from textassay.files import cache_dir, cache_folder, replacing
from textassay.temporary import private_folder, temporary_folder

OWN = f"textassay-{os.getuid()}"


@pytest.fixture(autouse=True)
def shared(tmp_path, monkeypatch) -> Path:
    """A temporary directory for this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    temporary._folder_of_this_process.cache_clear()
    yield tmp_path
    temporary._folder_of_this_process.cache_clear()


def test_the_private_folder_is_closed_and_the_same_for_all_processes(shared) -> None:
    assert private_folder() == private_folder() == shared / OWN
    assert (shared / OWN).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("taken_by", ["a link", "a file", "an open folder", "another user"])
def test_a_name_that_somebody_took_first_is_left_alone(taken_by, shared, monkeypatch) -> None:
    theirs = shared / OWN
    if taken_by == "a link":
        (shared / "elsewhere").mkdir(mode=0o700)
        theirs.symlink_to("elsewhere")
    elif taken_by == "a file":
        theirs.touch(mode=0o600)
    elif taken_by == "an open folder":
        theirs.mkdir()
        theirs.chmod(0o777)
    else:
        theirs.mkdir(mode=0o700)
        monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
        theirs.rename(shared / f"textassay-{os.getuid()}")
        theirs = shared / f"textassay-{os.getuid()}"
    ours = private_folder()
    assert ours == private_folder() and ours != theirs
    assert ours.stat().st_mode & 0o777 == 0o700 and not any(shared.glob("elsewhere/*"))


def test_the_folder_of_a_process_ends_with_it(shared) -> None:
    (shared / OWN).touch()
    code = "from textassay.temporary import private_folder; print(private_folder())"
    environment = {**os.environ, "TMPDIR": str(shared)}
    made = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert Path(made.strip()).parent == shared
    assert [path.name for path in shared.iterdir()] == [OWN]


def test_a_temporary_folder_goes_with_its_block(shared) -> None:
    with pytest.raises(ValueError), temporary_folder("trial") as folder:
        (folder / "a").write_text("x")
        raise ValueError
    assert folder.parent == shared / OWN and not folder.exists()


def test_folders_of_killed_processes_are_removed_and_those_in_use_are_not(
    shared, monkeypatch
) -> None:
    abandoned = private_folder() / "trial-1"
    (abandoned / "deep").mkdir(parents=True)
    other_purpose = private_folder() / "launch-1"
    other_purpose.mkdir()
    with temporary_folder("trial"):
        assert abandoned.exists()  # so young that its process may not have locked it yet
    monkeypatch.setattr(temporary, "SECONDS_UNTIL_LOCKED", -1)
    with temporary_folder("trial") as in_use, temporary_folder("trial"):
        assert in_use.exists() and not abandoned.exists() and other_purpose.exists()


def test_without_a_writable_cache_it_is_in_the_private_folder(shared, monkeypatch) -> None:
    (shared / "file").touch()
    monkeypatch.setenv("TEXTASSAY_CACHE", str(shared / "file"))
    assert cache_folder("encoded") == shared / OWN / "cache" / "encoded"
    monkeypatch.setenv("TEXTASSAY_CACHE", str(shared / "cache"))
    assert cache_folder("encoded") == shared / "cache" / "encoded"


def test_a_user_without_a_home_directory_has_a_cache(shared, monkeypatch) -> None:
    monkeypatch.delenv("TEXTASSAY_CACHE", raising=False)
    monkeypatch.setattr(Path, "expanduser", _no_home)
    assert cache_dir() == shared / OWN / "cache"
    shutil.rmtree(shared / OWN)
    assert cache_folder("encoded").is_dir()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_cache_is_the_owners_alone_whatever_the_umask(umask, shared, monkeypatch) -> None:
    monkeypatch.setenv("TEXTASSAY_CACHE", str(shared / "above" / "cache"))
    before = os.umask(umask)
    try:
        folder = cache_folder("encoded")
        with replacing(folder / "rows", private=True) as scratch:
            scratch.write_text("a text")
        with replacing(folder / "model", private=True) as scratch:
            (scratch / "deep").mkdir(parents=True)
            (scratch / "deep" / "weights").touch()
            (scratch / "link").symlink_to("/")
        with temporary_folder("trial") as trial:
            assert _modes(trial) == {trial.name: 0o700}
    finally:
        os.umask(before)
    assert folder == shared / "above" / "cache" / "encoded"
    assert _modes(shared / "above") == {
        "above": 0o700, "cache": 0o700, "encoded": 0o700, "rows": 0o600, "model": 0o700,
        "deep": 0o700, "weights": 0o600,
    }  # fmt: skip
    assert Path("/").stat().st_mode & 0o777 != 0o700


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o777])
def test_a_cache_that_was_open_is_closed(mode, shared, monkeypatch) -> None:
    """What others could have put there, or renamed, is not read any more."""
    encoded, name = shared / "cache" / "encoded", "a" * 64
    (encoded / name).mkdir(parents=True)
    (encoded / f"{name}.arrow").write_text("a text")
    for folder in (encoded, shared / "cache"):
        folder.chmod(mode)
    monkeypatch.setenv("TEXTASSAY_CACHE", str(shared / "cache"))
    assert cache_folder("encoded") == encoded
    left = {name, f"{name}.arrow"} if mode == 0o755 else set()
    assert {path.name for path in encoded.iterdir()} == left
    assert {path.stat().st_mode & 0o777 for path in (encoded, encoded.parent)} == {0o700}


def test_files_that_are_not_of_a_cache_are_kept_and_not_used(shared, monkeypatch) -> None:
    """Somebody's own folder may have the name of one of ours."""
    mine = shared / "cache" / "students"
    mine.mkdir(parents=True)
    (mine / "list.csv").touch()
    mine.chmod(0o777)
    (shared / "cache" / "other").touch()
    monkeypatch.setenv("TEXTASSAY_CACHE", str(shared / "cache"))
    assert cache_folder("students") == shared / OWN / "cache" / "students"
    assert (mine / "list.csv").exists()


@pytest.mark.parametrize(
    ("mode", "is_used"), [(0o755, True), (0o1777, True), (0o777, False), (0o775, False)]
)
def test_a_folder_with_other_files_keeps_its_mode(mode, is_used, shared, monkeypatch) -> None:
    above = shared / "scratch"
    above.mkdir()
    (above / "of somebody").touch()
    above.chmod(mode)
    monkeypatch.setenv("TEXTASSAY_CACHE", str(above))
    expected = above if is_used else shared / OWN / "cache"
    assert cache_folder("encoded") == expected / "encoded"
    assert above.stat().st_mode & 0o7777 == mode
    assert (expected / "encoded").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("theirs", ["cache", "cache/encoded"])
def test_another_users_cache_is_left_alone(theirs, shared, monkeypatch) -> None:
    folder = shared / "cache" / "encoded"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    (folder / "planted").touch()
    monkeypatch.setenv("TEXTASSAY_CACHE", str(shared / "cache"))
    stat, other = Path.stat, str(shared / theirs)
    monkeypatch.setattr(Path, "stat", lambda path, **given: _Owned(stat(path, **given))
                        if str(path) == other else stat(path, **given))  # fmt: skip
    found = cache_folder("encoded")
    assert found == shared / OWN / "cache" / "encoded"
    assert _modes(shared / OWN) == {OWN: 0o700, "cache": 0o700, "encoded": 0o700}
    assert folder.stat().st_mode & 0o777 == 0o777
    monkeypatch.undo()
    assert (folder / "planted").exists()


class _Owned:
    """What `stat` says of somebody else's folder."""

    def __init__(self, found: os.stat_result) -> None:
        self.st_mode, self.st_uid = found.st_mode, found.st_uid + 1


def _modes(folder: Path) -> dict[str, int]:
    """{name: mode} of a folder and of what is in it; links are left out."""
    paths = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    return {path.name: path.stat().st_mode & 0o777 for path in paths}


def _no_home(self: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")
