"""What a run must keep to itself: tokens, and in its cache the texts."""

import os
import stat
import sys
from pathlib import Path

import pytest
from tests.commands_for_tests import go_offline, script

from textassay.artifacts.hallmark import read_hallmark
from textassay.files import read_json

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("verified_here")]
TOKENS = {"HF_TOKEN": "hf_" + "aB3" * 11, "WANDB_API_KEY": "0123456789" * 4}
PASSWORD = "secret-of-mine"
ADDRESS = f"https://me:{PASSWORD}@host/x"
OPEN = stat.S_IRWXG | stat.S_IRWXO


def test_no_file_of_a_run_holds_a_token_and_nobody_else_reads_its_cache(
    tiny_base, tmp_path, monkeypatch
) -> None:
    go_offline(monkeypatch, tmp_path / "caches")
    for name, token in TOKENS.items():
        monkeypatch.setenv(name, token)
    env = tmp_path / "mine.env"
    env.write_text(
        f"TEXTASSAY_TRAINING__MAX_STEPS=4\nGITHUB_TOKEN=ghp_{'a1' * 18}\n"
        f"HF_TOKEN={TOKENS['HF_TOKEN']}\n"
    )
    arguments = [
        f"--output_dir={tmp_path / 'out'}", f"--env_file={env}", "--data_name=sentiment5_en",
        "--max_samples=60", f"--model_name_or_path={tiny_base}", "--max_seq_length=32",
        "--target_modules=query,value", "--eval_steps=2", "--save_steps=2",
        "--eval_strategy=steps", "--save_strategy=steps", "--bootstrap_samples=100",
        "--allow_unlearned",
    ]  # fmt: skip
    # As it would stand there if Click let them through.
    said = ["--hub_token", TOKENS["HF_TOKEN"], ADDRESS, TOKENS["WANDB_API_KEY"]]
    monkeypatch.setattr(sys, "argv", ["train_lora.py", *arguments, *said])
    before = os.umask(0)
    try:
        result = script("train_lora")(*arguments)
    finally:
        os.umask(before)
    assert result.exit_code == 0, result.output
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != env]
    assert len(files) > 20
    secrets = [secret.encode() for secret in (*TOKENS.values(), PASSWORD, "ghp_")]
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret in content], path
    assert not [secret for secret in secrets if secret in result.output.encode()]
    kept = read_json(tmp_path / "out" / "provenance.json")["command"]
    assert kept.endswith("--hub_token *** https://***@host/x ***")
    assert read_hallmark(tmp_path / "out" / "model")["made_by"]["command"] == kept
    _is_closed(tmp_path / "caches" / "textassay")


def _is_closed(cache: Path) -> None:
    inside = [cache, *cache.rglob("*")]
    assert {path.name for path in inside} >= {"encoded", "hashes"}
    assert any(path.suffix == ".arrow" for path in inside)
    assert [path for path in inside if path.stat().st_mode & OPEN] == []
