"""The cache forgets what was unused longest, and never mixes two answers up."""

from hypothesis import given
from hypothesis import strategies as st

from textassay.serving.batching import Answer
from textassay.serving.cache import AnswerCache

KEYS = st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "y", "z", "", "ab", "好"]))
STEPS = st.lists(st.tuples(KEYS, st.one_of(st.none(), st.floats(0, 1))), max_size=60)


@given(STEPS, st.integers(0, 5))
def test_it_is_a_bounded_dictionary_in_the_order_of_use(steps, size) -> None:
    cache = AnswerCache(size)
    model: dict[tuple[str, str], Answer] = {}
    for (name, text), value in steps:
        if value is None:
            known = model.pop((name, text), None)
            assert cache.get(name, text) == known
            if known is None:
                continue
            model[(name, text)] = known
        else:
            model.pop((name, text), None)
            model[(name, text)] = Answer([value], [-value])
            cache.put(name, text, model[(name, text)])
            if len(model) > size:
                del model[next(iter(model))]
        assert len(cache) == len(model) <= size
