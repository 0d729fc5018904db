"""A name at the wrong place of a job is answered with the right one."""

import pytest

from textassay.config.homes import advise_home, keys_of_variables
from textassay.config.load import resolve_job
from textassay.errors import UsageError


@pytest.mark.parametrize("key", sorted(keys_of_variables()))
def test_every_setting_is_found_at_the_top_of_a_job(key):
    section, _, name = key.partition(".")
    if name in ("name", "deepspeed"):  # there are some of that name at the top
        return
    assert f"`{section}:`" in str(advise_home(name))


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ("learning_rate: 1e-4", "belongs under `training:`, indented"),
        ("label_smoothing_factor: 0.1", "belongs under `training:`, indented"),
        ("lora_alpha: 4", "belongs under `method:`, indented"),
        ("text_column: a", "belongs under `data:`, indented"),
        ("lora_r: 4", "belongs under `method:` as r, indented"),
        ("num_epochs: 4", "belongs under `training:` as num_train_epochs, indented"),
        ("data_path: a.csv", "belongs under `data:` as path, indented"),
        ("seed: 1", "write it as `seeds:` at the top"),
        ("use_cpu: true", "it is set by resources.device"),
        ("model: {learning_rate: 1}", "belongs under `training:`, indented"),
        ("data: {max_seq_length: 1}", "belongs under `model:`, indented"),
        ("trainning: {a: 1}", "did you mean training?"),
    ],
)
def test_a_flat_job_hears_where_its_settings_belong(content, advice, write):
    with pytest.raises(UsageError) as caught:
        resolve_job(write("my.yaml", content), None, {}, {}, None)
    assert "my.yaml" in str(caught.value) and advice in str(caught.value)
