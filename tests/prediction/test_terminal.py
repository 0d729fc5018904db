"""Texts of the command line, examples, and what is typed at a real terminal."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest
from tests.commands_for_tests import SCRIPTS, assert_refused, script
from tests.prediction.answering import NASTY, make_classifier

import textassay
from textassay.prediction import terminal
from textassay.prediction.answers import Choices, answer

predict = script("predict")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_classifier(tmp_path_factory.mktemp("classifier"))


def lines(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.split("\n")[:-1]]


def ears_for_ctrl_c() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so do the programs below it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(process: subprocess.Popen[bytes]) -> int:
    """The exit code after Ctrl-C, pressed again if need be.

    Between its prompt and its waiting Python's editor notices no signal.
    """
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(10)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("Ctrl-C ends nothing")


def test_texts_are_answered_in_order_as_lines_where_there_is_no_terminal(model):
    classifier = textassay.Classifier.load(model)
    texts = [text for text in NASTY.values() if "\0" not in text]
    found = lines(predict(model, *(part for text in texts for part in ("--text", text))))
    assert [item["text"] for item in found] == texts
    for item, wanted in zip(found, classifier.predict(texts), strict=True):
        assert item["predicted"] == wanted["label"]
        assert item["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-5)


def test_a_text_that_is_too_long_is_answered_and_said_to_be_cut(model):
    result = predict(model, "--text", "good", "--text", "a good film " * 1000)
    assert len(lines(result)) == 2
    assert "text 2 fills the 48 tokens of the model; more is cut off" in result.stderr
    assert "text 1" not in result.stderr


def test_bytes_that_are_no_text_are_refused(model):
    result = predict(model, "--text", "fine", "--text", os.fsdecode(b"caf\xe9"))
    assert_refused(result, 65, "--text, number 2: is not valid UTF-8 (character 4)")


@pytest.mark.parametrize("flags", [
    [], ["--text", "a", "--demo"], ["--interactive", "--input", "a.csv"],
    ["--text", "a", "--output", "b"], ["--input", "-", "--output", "b.csv"], ["--input", "a.csv"],
])  # fmt: skip
def test_one_source_of_texts_is_wanted(flags, model):
    result = predict(model, *flags)
    assert_refused(result, 2, "--")


def test_the_examples_are_in_the_language_of_the_model(model):
    found = lines(predict(model, "--demo", "--top_k", 1))
    assert [item["text"] for item in found] == list(terminal.ENGLISH)

    class Chinese:
        labels = ("高兴", "生气")
        hallmark = None

    assert terminal.examples_for(Chinese) == terminal.CHINESE


def test_what_is_typed_is_answered_until_quit(model, monkeypatch):
    typed = iter(["a good film", "", "  ", "bad", "QUIT", "never"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    found = lines(predict(model, "--interactive"))
    assert [item["text"] for item in found] == ["a good film", "bad"]
    assert next(typed) == "never"


@pytest.mark.parametrize("ending", [EOFError, KeyboardInterrupt])
def test_ctrl_d_and_ctrl_c_are_a_clean_end(ending, model, monkeypatch):
    def pressed(prompt):
        raise ending

    monkeypatch.setattr("builtins.input", pressed)
    assert lines(predict(model, "--interactive")) == []


def test_a_terminal_is_shown_bars_that_are_as_long_as_probabilities(model):
    classifier = textassay.Classifier.load(model)
    row = classifier.predict_proba(["a good film"])[0]
    for choices in (Choices(), Choices(threshold=1.0), Choices(prefix="x ", top_k=2)):
        shown = terminal.shown(
            "a good film", answer(row, classifier.labels, choices), choices
        ).plain
        head, *bars = shown.rstrip().splitlines()
        assert head.startswith("abstain" if choices.threshold else classifier.labels[row.argmax()])
        assert "a good film" in head
        assert [bar.count("━") for bar in bars] == [
            round(24 * p) for p in sorted(row, reverse=True)[: choices.top_k]
        ]


class Terminal:
    """A process at a terminal of its own: what it shows, and keys for it."""

    def __init__(self, model, cache):
        self.master, slave = pty.openpty()
        command = [sys.executable, SCRIPTS / "predict.py", model, "--threads", "1", "--interactive"]
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=ears_for_ctrl_c,
            env={**os.environ, "TERM": "xterm", "TEXTASSAY_CACHE": str(cache)},
        )  # fmt: skip
        os.close(slave)
        self.shown = ""
        self.seen = 0

    def until(self, text):
        """Wait until something is shown behind what was waited for before."""
        start, end = self.seen, time.monotonic() + 60
        while text not in self.shown[start:]:
            assert time.monotonic() < end, self.shown
            if select.select([self.master], [], [], 1)[0]:
                try:
                    self.shown += os.read(self.master, 4096).decode()
                except OSError:  # the other side is closed
                    break
        self.seen = self.shown.index(text, start) + len(text)
        return self.shown[start : self.seen]

    def keys(self, keys):
        os.write(self.master, keys.encode())


@pytest.mark.slow
def test_a_terminal_remembers_what_was_typed_and_ends_cleanly(model, tmp_path):
    (tmp_path / "predict_history").write_text("of last week\n")
    screen = Terminal(model, tmp_path)
    screen.until("> ")
    screen.keys("a good film\n")
    screen.until("━")  # the editor may show its prompt again while keys come in
    screen.until("> ")
    screen.keys("\x1b[A\x1b[A\n")  # two lines up
    screen.until("of last week")
    screen.until("━")
    screen.until("> ")
    assert interrupted(screen.process) == 0
    assert "Traceback" not in screen.shown and "rror" not in screen.shown
    history = (tmp_path / "predict_history").read_text().splitlines()
    assert history == ["of last week", "a good film", "of last week"]
