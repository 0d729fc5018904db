"""What `/info` says about a server and its models."""

from importlib.metadata import version
from typing import Any

from textassay.serving.models import ServedModel
from textassay.serving.service import Service


def describe(service: Service, changed_files: dict[str, list[str]]) -> dict[str, Any]:
    """The default model with the keys of text-embeddings-inference, and all models with ours."""
    settings = service.settings
    first = next(iter(service.models.values()))
    return {
        "model_id": first.name,
        "model_sha": first.hallmark,
        "model_dtype": "int8" if first.classifier.kind == "onnx-int8" else "float32",
        "model_type": {"classifier": _label_ids(first.labels)},
        "max_concurrent_requests": settings.limits.queue,
        "max_input_length": first.classifier.max_length,
        "max_client_batch_size": settings.limits.items,
        "auto_truncate": True,
        "version": version("textassay"),
        "max_body_bytes": settings.limits.body_bytes,
        "max_text_chars": settings.limits.text_chars,
        "timeout_seconds": settings.limits.seconds,
        "models": [
            {**_describe_one(model), "changed_files": changed_files.get(model.name, [])}
            for model in service.models.values()
        ],
        "workers": service.workers,
        "last_reload": service.last_reload,
    }


def _label_ids(labels: list[str]) -> dict[str, Any]:
    return {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _describe_one(model: ServedModel) -> dict[str, Any]:
    hallmark = model.classifier.hallmark
    return {
        "name": model.name,
        "kind": model.classifier.kind,
        "labels": model.labels,
        "max_length": model.classifier.max_length,
        "temperature": model.classifier.temperature,
        "base": hallmark["base"].get("name") if hallmark else None,
        "hallmark": model.hallmark,
        "version": model.version,
    }
