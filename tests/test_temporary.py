"""Folders in the shared temporary directory are nobody else's, and go with their process."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from textassay import temporary
from textassay.files import cache_dir, cache_folder
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


def _no_home(self: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")
