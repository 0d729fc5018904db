"""What a tuned model has to beat, on the same rows: the majority class, and TF-IDF."""

from collections.abc import Sequence

import numpy as np

from textassay.data.words import UNSPACED, words
from textassay.errors import first_line


class NotFittedError(Exception):
    """A baseline that these training rows cannot fit, and why."""


def majority(train_labels: np.ndarray, rows: int, labels: int) -> np.ndarray:
    """Logits, shape [rows, labels], of a model that knows how often each label occurs in train."""
    counts = np.bincount(train_labels, minlength=labels)
    return np.tile(np.log(np.maximum(counts, 1e-9) / counts.sum()), (rows, 1))


def tfidf(
    train_texts: Sequence[str], train_labels: np.ndarray, texts: Sequence[str], labels: int
) -> np.ndarray:
    """Logits, shape [rows, labels], of logistic regression over TF-IDF of the training texts.

    Words and word pairs, or characters up to three where the script has no spaces. On one thread:
    sums come out the same on every machine, whatever it allows. Raises NotFittedError.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    if _is_unspaced(train_texts):
        features = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
    else:
        if not any(map(words, train_texts)):
            raise NotFittedError("the training texts hold no word of two letters or more")
        features = TfidfVectorizer(
            tokenizer=words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True
        )
    model = make_pipeline(features, LogisticRegression(max_iter=1000, C=10.0))
    with threadpool_limits(limits=1):
        try:
            model.fit(list(train_texts), train_labels)
        except ValueError as error:  # one class only, or too few texts that share a character
            raise NotFittedError(first_line(error)) from None
        probabilities = model.predict_proba(list(texts))
    logits = np.full((len(texts), labels), np.log(1e-9))
    logits[:, model.classes_] = np.log(np.maximum(probabilities, 1e-9))
    return logits


def _is_unspaced(texts: Sequence[str]) -> bool:
    sample = "".join(texts[:500])
    return len(UNSPACED.findall(sample)) > 0.2 * max(1, len(sample))
