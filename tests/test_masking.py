"""What looks like a token or password is masked; what does not, is left as it is."""

import time

import pytest

from textassay.masking import looks_secret, mask, mask_command, mask_within

HF = "hf_" + "aB3" * 11
COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize(
    "secret",
    [
        HF, "hf_oauth_" + "a1" * 20, "ghp_" + "a1" * 18, "gho_" + "a1" * 18,
        "github_pat_" + "A1_b" * 10, "glpat-" + "a-1" * 7, "AKIA" + "A1" * 8, "ASIA" + "Z9" * 8,
        "sk-proj-" + "a1_-" * 20, "sk-" + "a1B" * 16, "xoxb-1234-5678-abcdef", "AIza" + "a1-" * 12,
        "wandb_v1_" + "a1" * 20, "pypi-AgE" + "Ag" * 20, "npm_" + "a1" * 18,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", ["{}", "the hub says 401 for {}.", "{}@main", "a={},b"])
def test_a_token_is_known_by_its_form(secret: str, around: str) -> None:
    text = around.format(secret)
    assert mask(text) == around.format("***") and looks_secret(text)
    assert secret not in str(mask_within({"a": [text, {"b": text}]}))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("--hub_token abc --seed 1", "--hub_token *** --seed 1"),
        ("--hub-token=abc --seed 1", "--hub-token=*** --seed 1"),
        ("--api_key abc", "--api_key ***"),
        (f"WANDB_API_KEY={COMMIT} python", "WANDB_API_KEY=*** python"),
        ("HF_TOKEN=abc", "HF_TOKEN=***"),
        ("Authorization: Bearer abc.def-gh1", "Authorization: Bearer ***"),
        ("https://me:pw@host/a.csv", "https://***@host/a.csv"),
        ("https://:pw@host/a.csv", "https://***@host/a.csv"),
        (f"https://{COMMIT}@host/a", "https://***@host/a"),
        ("postgresql+x://u:p%40w@h/d", "postgresql+x://***@h/d"),
    ],
)
def test_a_secret_is_known_by_what_stands_before_it(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "train_lora.py --data_path my.csv --num_virtual_tokens 20 --tokenizer_name_or_path x",
        "git@github.com:a/b.git", "https://host:8080/a", "http://host/a@b", "hf://datasets/a@main",
        "no pad token at all", "the token 'x' is unknown", "pad_token=[PAD]", "hf_hub", "sk-learn",
        "the bearer of this", "a bearer instrument",
        "sk-learn-baselines-for-texts/a.csv",
        "pypi-package-descriptions",
        "hf_datasets/a_b", "gha_workflowsofmanyprojects", "--hub_token --seed 1",
        "ghost_writer", COMMIT, "models/akia",
        "token_ids=[1]", "runs/sk-1/seed-0", "mailto:me@host",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert mask(text) == text and not looks_secret([text])


def test_of_a_command_hexadecimal_keys_are_masked_and_revisions_are_kept() -> None:
    given = ["train.py", "--revision", COMMIT, f"--revision={COMMIT}", "--run_name", COMMIT,
             f"--project={COMMIT}", HF]  # fmt: skip
    assert mask_command(given) == (
        f"train.py --revision {COMMIT} --revision={COMMIT} --run_name *** --project=*** ***"
    )


@pytest.mark.parametrize(
    "piece", ["a.", "-", "eyJ-", "A_", "--token", "://", "x:", "Bearer ", "hf_"]
)
def test_masking_takes_no_time_out_of_proportion(piece: str) -> None:
    started = time.process_time()
    mask(piece * (300_000 // len(piece)))
    assert time.process_time() - started < 5
