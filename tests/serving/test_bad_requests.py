"""Whatever a client sends: no 5xx, a message that names the place, the next is answered."""

import asyncio
import json
from typing import Any, NamedTuple

import pytest
from tests.serving.test_app import ask

from textassay.serving.bodies import PredictBody, RefusedError, parse
from textassay.serving.settings import Limits

LIMITS = {"body_bytes": 20_000, "text_chars": 2_000, "items": 20}


class Case(NamedTuple):
    """A body (bytes as they are), where it is sent, and what is said about it."""

    name: str
    body: Any
    status: int
    says: str
    path: str = "/predict"


REFUSED = [
    Case("no body", b"", 400, "the body is no JSON: Expecting value"),
    Case("cut off", b'{"inputs": "a', 400, "the body is no JSON: Unterminated string"),
    Case("no JSON", b"inputs=a", 400, "the body is no JSON"),
    Case("other bytes", b'{"inputs": "\xff\xfe"}', 400, "the body is no JSON"),
    Case("deeply nested", b"[" * 15_000, 400, "the body is no JSON"),
    Case("a huge number", b'{"inputs": ' + b"9" * 10_000 + b"}", 400, "the body is no JSON"),
    Case("a list", [], 422, "the body: must be an object"),
    Case("null", None, 422, "the body: must be an object"),
    Case("no inputs", {}, 422, "inputs: is missing"),
    Case("an unknown key", {"inputs": "a", "modle": "x"}, 422,
         "modle: is not known; there is model, inputs, raw_scores, truncate"),
    Case("a key of half a pair", b'{"inputs": "a", "\\ud83d": 1}', 422, "not valid text"),
    Case("a number", {"inputs": 5}, 422, "inputs: must be a text or a list of texts, not a number"),
    Case("an object", {"inputs": {}}, 422, "inputs: must be a text or a list of texts, not an obj"),
    Case("no texts", {"inputs": []}, 422, "inputs: holds no text"),
    Case("a number among texts", {"inputs": ["a", 5]}, 422, "inputs[1]: must be a text, not a num"),
    Case("null among texts", {"inputs": ["a", None]}, 422, "inputs[1]: must be a text, not null"),
    Case("a pair", {"inputs": [["a"], ["b", "c"]]}, 422, "inputs[1]: must hold one text; it holds"),
    Case("an empty list among lists", {"inputs": [["a"], []]}, 422, "inputs[1]: must hold"),
    Case("a list among texts", {"inputs": ["a", ["b"]]}, 422, "inputs[1]: must be a text, not a l"),
    Case("a text as a flag", {"inputs": "a", "raw_scores": "yes"}, 422, "raw_scores: Input should"),
    Case("a number as a model", {"inputs": "a", "model": 1}, 422, "model: Input should be a valid"),
    Case("half a surrogate pair", b'{"inputs": ["a", "x\\ud83dy"]}', 422,
         "inputs[1]: holds half of a surrogate pair; it is not valid text"),
    Case("half a pair in a list", b'{"inputs": [["a"], ["\\ude00"]]}', 422, "inputs[1]: holds"),
    Case("too many texts", {"inputs": ["a"] * 21}, 422, "inputs: holds 21 texts; at most 20 go"),
    Case("a text too long", {"inputs": ["a", "b" * 2_001]}, 422,
         "inputs[1]: has 2,001 characters; at most 2,000 are read"),
    Case("a body too large", {"inputs": "a" * 30_000}, 413, "the body has more than 20,000 bytes"),
    Case("far too large", {"inputs": "a" * 3_000_000}, 413, "the body has more than 20,000 bytes"),
    Case("neither text nor texts", {}, 422, "text: give one of", "/sentiment-analyze"),
    Case("text and texts", {"text": "a", "texts": "b"}, 422, "give one of", "/sentiment-analyze"),
    Case("text as a number", {"text": 1}, 422, "text: must be a text", "/sentiment-analyze"),
    Case("half a pair as text", b'{"texts": ["\\ud83d"]}', 422, "texts[0]: holds half",
         "/sentiment-analyze"),
    Case("a model that is not there", {"inputs": "a"}, 404, "no such model", "/models/x/predict"),
    Case("a strange name", {"inputs": "a"}, 404, "no such model", "/models/%F0%9F%98%80/predict"),
    Case("no endpoint", {"inputs": "a"}, 404, "not found", "/predictions"),
]  # fmt: skip

ANSWERED = {
    "empty": "", "spaces": " \t\n ", "NUL": "a\x00good\x00film", "only emoji": "😀😡🎬👩‍👩‍👧",
    "HTML": "<script>alert(1)</script><b>good</b> &amp;", "right to left": "فيلم جيد ‏جدا‏ שלום",
    "controls": "\x01\x1b[31mred\x7f\u202e", "no characters": "\u200b\ufeff\ufffe",
    "one word": "x" * 1_900,
    "combining": "e" + "\u0301" * 500,
}  # fmt: skip


def send(local, case: Case):
    content = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    return asyncio.run(local.client.post(case.path, content=content))


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name.replace(" ", "-")) for c in REFUSED])
def test_what_is_wrong_is_refused_and_named(local, case) -> None:
    server = local(limits=LIMITS)
    response = send(server, case)
    assert response.status_code == case.status, response.text
    body = response.json()
    assert list(body) == ["error", "error_type"]
    assert case.says in body["error"] and "Traceback" not in body["error"]
    assert ask(server, "/predict", {"inputs": "a good film"})[0] == 200


@pytest.mark.parametrize(
    "text", [pytest.param(t, id=n.replace(" ", "-")) for n, t in ANSWERED.items()]
)
def test_strange_texts_are_answered(local, text) -> None:
    server = local(limits=LIMITS)
    status, rows = ask(server, "/predict", {"inputs": text})
    assert status == 200
    assert sum(row["score"] for row in rows) == pytest.approx(1)
    status, row = ask(server, "/sentiment-analyze", {"text": [text]})
    assert (status, row[0]["label"]) == (200, rows[0]["label"])


HUGE = {
    "lists": b'{"inputs":[' + b"[]," * 650_000 + b"[]]}",
    "nested": b'{"inputs":[' + b"[[[[]]]]," * 200_000 + b"[]]}",
    "numbers": b'{"inputs":[' + b"1," * 990_000 + b"1]}",
    "keys": b"{" + b",".join(b'"k%d":1' % number for number in range(160_000)) + b"}",
    "keys of parameters": b'{"inputs":"a","parameters":{'
    + b",".join(b'"k%d":1' % number for number in range(160_000)) + b"}}",
    "a text without end behind many values": b"[," * 20_000 + b'"' + b'\\"' * 900_000,
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
def test_a_body_of_many_values_is_refused_before_they_are_made(name, monkeypatch) -> None:
    """Reading them would take seconds, in which nobody else is answered."""
    monkeypatch.setattr("textassay.serving.bodies.json.loads", None)
    with pytest.raises(RefusedError) as refused:
        parse(HUGE[name], PredictBody, Limits())
    assert refused.value.status == 422
    assert "holds more than 20,000 values" in refused.value.body["error"]


def test_marks_inside_texts_are_no_values() -> None:
    texts = [',[{"\\' * 5_000] * 10 + ["\\"] * 100
    assert parse(json.dumps({"inputs": texts}).encode(), PredictBody, Limits()).inputs == texts
    many = ["a"] * 50_000
    limits = Limits(items=50_000)
    assert parse(json.dumps({"inputs": many}).encode(), PredictBody, limits).inputs == many


def test_a_body_that_does_not_come_to_its_end_is_not_waited_for(local) -> None:
    server = local(limits={"seconds": 0.1})

    async def slowly():
        yield b'{"inputs": '
        await asyncio.sleep(5)

    async def run():
        return await server.client.post("/predict", content=slowly())

    response = asyncio.run(run())
    assert response.status_code == 408
    assert "did not arrive within 0.1 seconds" in response.json()["error"]
