"""Where an export goes unless the user says."""

from pathlib import Path

from textassay.exporting.sources import usual_target


def test_an_export_goes_into_the_run_or_beside_and_never_into_the_hub_s_cache(
    tmp_path: Path,
) -> None:
    run = tmp_path / "seed-0"
    (run / "model").mkdir(parents=True)
    (run / "config.yaml").write_text("fingerprint: sha256:0\n")
    assert usual_target(run / "model", "onnx") == run / "onnx"
    assert usual_target(tmp_path / "mine", "onnx") == tmp_path / "mine-onnx"
    snapshot = tmp_path / "models--me--classifier" / "snapshots" / "0123abc"
    assert usual_target(snapshot, "onnx") == Path("classifier-onnx")
