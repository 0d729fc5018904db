"""What the endpoints answer, over ASGI in this process, on a real model."""

import asyncio
import json
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.serving.tiny_onnx import LABELS, MAX_LENGTH, WORDS, tiny_onnx

from textassay.artifacts.classifier import Classifier
from textassay.serving.middleware import OPEN

TEXTS = [
    "a good film",
    "a bad film, very dull",
    "这部电影很好",
    "",
    "warm",
    "the film was not funny",
]


def ask(local, path: str, body=None, **told):
    """(status, answer) of a POST of JSON, or of a GET where there is no body."""

    async def run():
        if body is None:
            return await local.client.get(path, **told)
        return await local.client.post(path, json=body, **told)

    response = asyncio.run(run())
    return response.status_code, response.json()


@pytest.fixture
def wanted(artifact) -> np.ndarray:
    """The probabilities of TEXTS, as Python gets them."""
    return Classifier.load(artifact).predict_proba(TEXTS)


def by_label(rows) -> list[float]:
    found = {row["label"]: row["score"] for row in rows}
    return [found[label] for label in LABELS]


def test_predict_answers_as_text_embeddings_inference(local, wanted) -> None:
    server = local()
    status, one = ask(server, "/predict", {"inputs": TEXTS[0]})
    assert status == 200
    assert [list(row) for row in one] == [["score", "label"]] * 3
    assert [row["score"] for row in one] == sorted((row["score"] for row in one), reverse=True)
    np.testing.assert_allclose(by_label(one), wanted[0], atol=1e-6)
    for batch in ([[text] for text in TEXTS], TEXTS):
        status, many = ask(server, "/predict", {"inputs": batch, "truncate": True})
        assert status == 200
        np.testing.assert_allclose([by_label(rows) for rows in many], wanted, atol=1e-6)
    status, alone = ask(server, "/predict", {"inputs": [TEXTS[0]]})
    assert (status, alone) == (200, [one])


def test_raw_scores_are_logits(local, artifact) -> None:
    _, rows = ask(local(), "/predict", {"inputs": TEXTS[1], "raw_scores": True})
    np.testing.assert_allclose(
        by_label(rows), Classifier.load(artifact).logits([TEXTS[1]])[0], atol=1e-5
    )


def test_sentiment_gives_label_confidence_and_probabilities(local, wanted) -> None:
    server = local()
    status, one = ask(server, "/sentiment-analyze", {"text": TEXTS[0]})
    assert status == 200
    assert one["label"] == LABELS[wanted[0].argmax()]
    assert one["confidence"] == one["probabilities"][one["label"]] == max(wanted[0])
    assert list(one["probabilities"]) == list(LABELS)
    for key in ("text", "texts"):
        status, many = ask(server, "/sentiment-analyze", {key: TEXTS})
        assert status == 200
        found = [[row["probabilities"][label] for label in LABELS] for row in many]
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_many_requests_at_once_get_their_own_answers(local, artifact) -> None:
    """Batches form of requests of other sizes; every one must leave with what is its own."""
    words = WORDS[2:]
    random = np.random.default_rng(0)
    requests = [
        [
            " ".join(random.choice(words, random.integers(1, 30)))
            for _ in range(random.integers(1, 9))
        ]
        for _ in range(60)
    ]
    server = local(cache_size=0, batch_size=16)

    async def run():
        return await asyncio.gather(
            *(server.client.post("/predict", json={"inputs": texts}) for texts in requests)
        )

    classifier = Classifier.load(artifact)
    for texts, response in zip(requests, asyncio.run(run()), strict=True):
        found = [by_label(rows) for rows in response.json()]
        np.testing.assert_allclose(found, classifier.predict_proba(texts), atol=1e-6)
    batches = [int(n) for n in re.findall(r'batch_size_bucket{le="\d+.0",model="reviews"} (\d+)',
               server.service.metrics.text().decode())]  # fmt: skip
    # Fewer batches than requests: they did go together.
    assert 0 < max(batches) < len(requests)


def test_the_cache_answers_what_was_asked_before_and_nothing_else(local) -> None:
    tries = []
    server = local(cache_size=4)
    model = server.service.models["reviews"]
    compute = model.batcher._compute
    model.batcher._compute = lambda texts: tries.append(list(texts)) or compute(texts)
    first = ask(server, "/predict", {"inputs": ["a", "good", "a"]})
    again = ask(server, "/predict", {"inputs": ["good", "film", "a"]})
    assert tries == [["a", "good"], ["film"]]
    assert first[1][0] == first[1][2] == again[1][2] != first[1][1] == again[1][0]
    text = server.service.metrics.text().decode()
    assert 'textassay_cache_hits_total{model="reviews"} 3.0' in text
    assert 'textassay_cache_misses_total{model="reviews"} 3.0' in text


def test_every_model_answers_under_its_own_name(local, artifact, tmp_path) -> None:
    labels = ("ham", "spam")
    other = tiny_onnx(tmp_path / "other", seed=1, labels=labels)
    server = local(models=(("reviews", str(artifact)), ("mail", str(other))))
    default = ask(server, "/predict", {"inputs": "a good film"})
    assert default == ask(server, "/models/reviews/predict", {"inputs": "a good film"})
    mail = ask(server, "/predict", {"inputs": "a good film", "model": "mail"})
    assert mail == ask(server, "/models/mail/predict", {"inputs": "a good film"})
    assert {row["label"] for row in mail[1]} == set(labels)
    _, sentiment = ask(server, "/models/mail/sentiment-analyze", {"text": "a good film"})
    assert sentiment["label"] == mail[1][0]["label"]
    for path, body in (
        ("/predict", {"inputs": "a", "model": "x"}),
        ("/models/x/predict", {"inputs": "a"}),
    ):
        status, refused = ask(server, path, body)
        assert status == 404
        assert refused["error"] == "model: no such model is served; there is reviews, mail"
    _, info = ask(server, "/info")
    assert [model["name"] for model in info["models"]] == ["reviews", "mail"]
    assert info["model_type"]["classifier"]["id2label"] == dict(zip("012", LABELS, strict=True))


def test_a_text_that_is_cut_is_refused_where_truncate_is_false(local) -> None:
    server = local()
    long = "film " * MAX_LENGTH
    assert ask(server, "/predict", {"inputs": long})[0] == 200
    assert ask(server, "/predict", {"inputs": "film", "truncate": False})[0] == 200
    status, refused = ask(server, "/predict", {"inputs": ["film", long], "truncate": False})
    assert status == 422
    assert refused["error"].startswith(f"inputs[1]: fills all {MAX_LENGTH} tokens")


def test_metrics_count_what_happened(local) -> None:
    server = local()
    ask(server, "/predict", {"inputs": TEXTS})
    ask(server, "/predict", {"inputs": 1})
    ask(server, "/made/up/by/a/client")
    text = server.service.metrics.text().decode()
    assert 'textassay_requests_total{endpoint="/predict",status="200"} 1.0' in text
    assert 'textassay_requests_total{endpoint="/predict",status="422"} 1.0' in text
    assert 'textassay_requests_total{endpoint="other",status="404"} 1.0' in text
    assert 'textassay_request_seconds_count{endpoint="/predict"} 2.0' in text
    assert f'textassay_batch_size_sum{{model="reviews"}} {len(TEXTS)}.0' in text
    by_label = re.findall(r'predictions_total{label="\w+",model="reviews"} (\S+)', text)
    assert sum(map(float, by_label)) == len(TEXTS)
    assert "made/up" not in text


def test_a_token_is_asked_for_where_there_is_one(local) -> None:
    server = local(token="s3cret-token")
    for path in ("/", "/health", "/ready", "/docs", "/openapi.json"):
        assert asyncio.run(server.client.get(path)).status_code == 200, path
    body = {"inputs": "a good film"}
    assert ask(server, "/predict", body)[0] == 401
    for given in ("Bearer s3cret-toke", "s3cret-token", "Basic s3cret-token", "Bearer ", "Bearer"):
        status, refused = ask(server, "/predict", body, headers={"Authorization": given})
        assert (status, refused["error_type"]) == (401, "unauthorized"), given
    for path in ("/info", "/metrics"):
        assert asyncio.run(server.client.get(path)).status_code == 401
    right = {"Authorization": "Bearer s3cret-token"}
    assert ask(server, "/predict", body, headers=right)[0] == 200
    assert ask(server, "/info", headers=right)[0] == 200


def test_nothing_of_names_and_paths_is_told_without_the_token(local, artifact, tmp_path) -> None:
    folder = Path(shutil.copytree(artifact, tmp_path / "unspoken-folder"))
    server = local(token="s3cret-token", models=(("unspoken-model", str(folder)),))
    (folder / "unspoken-file.txt").write_text("changed")
    reason = f"{folder}: is no artifact."
    server.service.last_reload = {"succeeded": False, "error": reason}
    server.service.workers = {"wanted": 2, "serving": 1, "why_missing": reason}
    assert ask(server, "/ready") == (200, {"ready": True})
    for path in (*sorted(OPEN), "/info", "/metrics", "/models/unspoken-model/predict", "//ready",
                 "/ready/", "/READY", "/ready?token=s3cret-token", "/made/up"):  # fmt: skip
        for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS"):
            for given in ({}, {"Authorization": "Bearer wrong"}):
                answer = asyncio.run(server.client.request(method, path, headers=given))
                assert "unspoken" not in answer.text + str(answer.headers), (method, path)
    right = {"Authorization": "Bearer s3cret-token"}
    _, told = ask(server, "/ready", headers=right)
    assert told["models"] == ["unspoken-model"]
    assert told["changed_files"] == {"unspoken-model": ["unspoken-file.txt"]}
    assert told["last_reload"]["error"] == told["workers"]["why_missing"] == reason
    # Without a token to ask for nobody is a stranger.
    assert ask(local(), "/ready")[1]["models"] == ["reviews"]


def test_a_server_that_ends_takes_nothing_new(local) -> None:
    server = local()
    assert ask(server, "/ready")[0] == 200
    server.service.draining = True
    status, ready = ask(server, "/ready")
    assert (status, ready["ready"]) == (503, False)
    assert ask(server, "/health")[0] == 200
    status, refused = ask(server, "/predict", {"inputs": "a good film"})
    assert (status, refused["error_type"]) == (503, "unhealthy")


@pytest.mark.parametrize("told", [{}, {"truncate": False}], ids=["cut", "uncut"])
def test_a_full_queue_and_a_slow_model_are_said_with_when_to_come_again(local, told) -> None:
    """Nothing is tokenised beside the queue, either."""
    server = local(limits={"queue": 2, "items": 2, "seconds": 0.3})
    model = server.service.models["reviews"]
    ids, may_go = model.classifier._predictor.ids, threading.Event()
    model.classifier._predictor.ids = lambda texts: may_go.wait(10) and ids(texts)

    def post(inputs):
        return server.client.post("/predict", json={"inputs": inputs, **told})

    async def run():
        first = asyncio.create_task(post("first"))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(post(["a", "b"]))
        await asyncio.sleep(0.05)
        third = await post("c")
        found = [await first, await second, third]
        may_go.set()
        return [*found, await post("after")]

    late, also_late, refused, after = asyncio.run(run())
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert refused.json()["error_type"] == "overloaded"
    assert late.status_code == also_late.status_code == 503
    assert "no answer within 0.3 seconds" in late.json()["error"]
    assert after.status_code == 200


def test_a_model_that_fails_is_a_500_in_json_and_the_next_request_is_answered(
    local, capsys
) -> None:
    server = local()
    model = server.service.models["reviews"]
    compute = model.batcher._compute

    def stumble(texts):
        if "poison" in texts:
            raise RuntimeError("it broke")
        return compute(texts)

    model.batcher._compute = stumble
    status, refused = ask(server, "/predict", {"inputs": "poison"})
    assert (status, refused["error_type"]) == (500, "backend")
    assert "it broke" in capsys.readouterr().err
    assert ask(server, "/predict", {"inputs": "fine"})[0] == 200
    assert ask(server, "/health")[0] == 200


def test_the_log_holds_texts_only_where_that_is_asked_for(local, capsys) -> None:
    ask(local(), "/predict", {"inputs": "my secret"})
    silent = capsys.readouterr().err
    line = json.loads(silent.splitlines()[-1])
    assert line | {"time": "", "seconds": 0} == {
        "time": "", "event": "request", "method": "POST", "path": "/predict", "status": 200,
        "seconds": 0, "model": "reviews", "items": 1,
    }  # fmt: skip
    assert "secret" not in silent
    ask(local(log_texts=True), "/predict", {"inputs": ["my secret", "two\nlines"]})
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert line["texts"] == ["my secret", "two\nlines"]


def test_pages_load_nothing_from_elsewhere(local) -> None:
    server = local()
    for path in ("/", "/docs"):
        response = asyncio.run(server.client.get(path))
        assert response.status_code == 200
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert re.findall(r"(?:src|href)=\"(?:https?:)?//", response.text) == []
        assert "http://" not in response.text and "https://" not in response.text
