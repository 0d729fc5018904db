"""docs/serving.md names everything that there is."""

import re
from pathlib import Path

from textassay.commands.serve import main
from textassay.serving.app import WHY_NOT

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_every_flag_stands_on_the_page_with_its_default() -> None:
    options = [option for option in main.params if option.param_type_name == "option"]
    assert len(options) > 15
    for option in options:
        row = next(line for line in PAGE.splitlines() if line.startswith("|")
                   and f"`--{option.name}`" in line.split("|")[1])  # fmt: skip
        if isinstance(option.default, (int, float)) and not option.is_flag:
            assert f"`{option.default:g}`" in row or f"`{option.default}`" in row, option.name


def test_every_endpoint_status_and_metric_stands_on_the_page(local) -> None:
    service = local().service
    shown = {name.removesuffix("_total") for name in re.findall(r"`(textassay_\w+)`", PAGE)}
    lines = service.metrics.text().decode().splitlines()
    names = {line.split()[2].removesuffix("_total") for line in lines if line.startswith("# TYPE")}
    assert len(names) > 7 and names == shown
    for status in [*WHY_NOT, 500]:
        assert f"| {status} |" in PAGE
    for path in ("/predict", "/sentiment-analyze", "/models/NAME/predict", "/health", "/ready",
                 "/info", "/metrics", "/docs", "/openapi.json"):  # fmt: skip
        assert re.search(rf"`(GET|POST) {path}`", PAGE), path
