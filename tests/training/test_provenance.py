"""Which code a run was made by, wherever that code is."""

from textassay.training.provenance import code_version


def test_an_image_says_of_which_commit_it_was_built(monkeypatch) -> None:
    here = code_version()
    monkeypatch.setenv("TEXTASSAY_COMMIT", "0123456789ab-changed")
    assert code_version() == "0123456789ab-changed"
    monkeypatch.setenv("TEXTASSAY_COMMIT", "unknown")
    assert code_version() == here != "unknown"
