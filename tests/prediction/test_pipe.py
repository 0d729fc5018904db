"""JSON lines through a pipe: each answered at once, in order, and nothing dropped."""

import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.commands_for_tests import SCRIPTS, paragraph
from tests.prediction.answering import NASTY, as_lines, make_classifier, texts_of, write_table

import textassay
from textassay.errors import DataError
from textassay.prediction import pipes
from textassay.prediction.pipes import waiting_lines

LINES = st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=12)


@given(lines=LINES, ended=st.booleans(), cut=st.integers(1, 7))
def test_every_line_comes_once_and_in_order(lines, ended, cut):
    content = b"\n".join(lines) + b"\n" * ended
    reader, writer = os.pipe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipes, "LINES_AT_ONCE", 3)
        for start in range(0, len(content), cut):
            os.write(writer, content[start : start + cut])
        os.close(writer)
        batches = list(waiting_lines(reader))
    os.close(reader)
    assert all(0 < len(batch) <= 3 for batch in batches)
    wanted = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    assert [pair for batch in batches for pair in batch] == wanted


def test_a_line_does_not_wait_for_the_next_one():
    reader, writer = os.pipe()
    lines = waiting_lines(reader)
    os.write(writer, b"one\ntwo\nhalf of thr")
    assert next(lines) == [(1, b"one"), (2, b"two")]
    os.write(writer, b"ee\n")
    assert next(lines) == [(3, b"half of three")]
    os.close(writer)
    assert list(lines) == []
    os.close(reader)


def test_a_line_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr(pipes, "LONGEST_LINE", 100)
    reader, writer = os.pipe()
    os.write(writer, b"one\n" + b"x" * 101)
    with pytest.raises(DataError, match="standard input, line 2"):
        list(waiting_lines(reader))
    os.close(reader)
    os.close(writer)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_classifier(tmp_path_factory.mktemp("classifier"))


def start(model, *flags, **streams):
    command = [sys.executable, SCRIPTS / "predict.py", model, "--threads", "1", *flags]
    kinds = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(list(map(str, command)), **(kinds | streams))


def ask(process, *items):
    """The answers to these items, which must come while the pipe stays open."""
    process.stdin.write(as_lines(items).encode())
    process.stdin.flush()
    return [json.loads(answer_line(process)) for _ in items]


def answer_line(process):
    assert select.select([process.stdout], [], [], 60)[0], "no answer in a minute"
    return process.stdout.readline()


@pytest.mark.slow
def test_a_pipe_is_a_conversation_that_ends_at_a_line_that_cannot_be_used(model):
    classifier = textassay.Classifier.load(model, threads=1)
    process = start(model, "--input", "-", "--output", "-", stdout=subprocess.PIPE, bufsize=0)
    (first,) = ask(process, "a good film")
    assert first["text"] == "a good film" and first["predicted"] in classifier.labels
    many = ask(process, *({"review": text, "id": text[:3]} for text in texts_of(40)))
    assert [item["id"] for item in many] == [text[:3] for text in texts_of(40)]
    assert [item["predicted"] for item in many] == [
        answer["label"] for answer in classifier.predict(texts_of(40))
    ]
    nasty = ask(process, *({"review": text} for text in NASTY.values()))
    assert [item["review"] for item in nasty] == list(NASTY.values())
    process.stdin.write(b'"fine"\n{"review": "\\ud83d"}\n"after"\n')
    out, error = process.communicate(timeout=60)
    assert [json.loads(line)["review"] for line in out.splitlines()] in (["fine"], [])
    assert process.returncode == 65
    said = error.decode().splitlines(keepends=True)[-1]
    assert "standard input, line 52: holds half of a surrogate pair" in paragraph(said)


@pytest.mark.slow
def test_lines_that_cannot_be_used_are_answered_with_the_reason_if_told_so(model):
    lines = b'{"text": "a"}\n{broken\n[1]\n\xff\xfe\n{"id": 7}\n\n{"text": "b", "score": 1}\n"c"'
    process = start(model, "--input", "-", "--on_bad_rows", "skip", "--top_k", "0")
    out, error = process.communicate(lines, timeout=60)
    assert process.returncode == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert [bool(item["predicted"]) for item in found] == [True, *[False] * 5, True]
    assert found[4]["id"] == 7
    for item, reason in zip(found[1:6], ["line 2: is not valid JSON", "line 3: is not an object",
                            "line 4: is not valid UTF-8", "line 5: has no text",
                            "line 7: has 'score' already"], strict=True):  # fmt: skip
        assert reason in item["problem"]
    assert "5 lines without an answer" in error.decode()


@pytest.mark.slow
def test_a_reader_may_go_and_a_full_disk_is_named(model, tmp_path):
    """`| head -1` is no failure; `> /dev/full` is one."""
    path = write_table(tmp_path / "in.csv", {"text": texts_of(20_000)})
    process = start(model, "--input", path, "--output", "-")
    assert json.loads(answer_line(process))["text"] == "0 "
    process.stdout.close()
    error = process.stderr.read().decode()
    assert process.wait(60) == 0 and "rror" not in error and "Traceback" not in error
    with Path("/dev/full").open("wb") as full:
        process = start(model, "--text", "a", stdout=full)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "standard output: cannot be written (no space left on device)" in paragraph(
        error.decode()
    )


def test_the_answers_of_one_line_are_not_mixed_with_anothers(model):
    """Several threads on one classifier, as people use it behind a server of their own."""
    classifier = textassay.Classifier.load(model, threads=1)
    texts = texts_of(30)
    wanted = [answer["label"] for answer in classifier.predict(texts)]
    found = {}

    def work(at):
        found[at] = [classifier.predict(text)["label"] for text in texts]

    threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), wanted)
