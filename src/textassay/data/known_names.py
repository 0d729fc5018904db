"""Names that data files give to the column of the text and to that of the label."""

TEXT_NAMES = (
    "sentence", "content", "review", "comment", "text_a", "text_b", "review_body", "review_text",
    "tweet", "message", "utterance", "document", "body", "title", "headline",
    "文本", "内容", "评论",
)  # fmt: skip
LABEL_NAMES = (
    "target", "sentiment", "stars", "category", "class", "labels", "label_name", "emotion",
    "rating", "score", "topic", "intent", "polarity", "标签", "情感", "类别",
)  # fmt: skip
KNOWN = frozenset(("text", "label", *TEXT_NAMES, *LABEL_NAMES))


def is_known(name: object) -> bool:
    """Return True for a name that a text or label column usually has, in any case."""
    return isinstance(name, str) and name.strip().lower() in KNOWN
