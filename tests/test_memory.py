"""A limit on what a block may take more, counted by the system."""

import resource
import sys
import threading

import pytest

from textassay.memory import ROOM, choose_allocator, limited_memory, room_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts it")
LIMIT = resource.RLIMIT_DATA


def test_a_block_takes_what_it_may_and_no_more() -> None:
    with limited_memory(200_000_000):
        assert len(bytearray(100_000_000)) == 100_000_000
        with pytest.raises(MemoryError):
            bytearray(400_000_000)
    assert len(bytearray(400_000_000)) == 400_000_000


def test_blocks_of_several_threads_add_up_and_the_last_one_ends_the_limit() -> None:
    before = resource.getrlimit(LIMIT)
    inside, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with limited_memory(600_000_000):
            inside.set()
            go_on.wait()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    with limited_memory(ROOM):
        assert len(bytearray(400_000_000)) == 400_000_000
    held = resource.getrlimit(LIMIT)
    go_on.set()
    thread.join()
    assert held[0] != before[0]
    assert resource.getrlimit(LIMIT) == before


def test_a_limit_of_the_users_own_holds_and_comes_back() -> None:
    soft, hard = resource.getrlimit(LIMIT)
    own = 1 << 40
    resource.setrlimit(LIMIT, (own, hard))
    try:
        with limited_memory(1 << 50):
            assert resource.getrlimit(LIMIT)[0] == own
        assert resource.getrlimit(LIMIT)[0] == own
    finally:
        resource.setrlimit(LIMIT, (soft, hard))


def test_an_error_ends_the_limit() -> None:
    before = resource.getrlimit(LIMIT)
    with pytest.raises(ZeroDivisionError), limited_memory(ROOM):
        _ = 1 // 0
    assert resource.getrlimit(LIMIT) == before


def test_room_grows_with_the_file() -> None:
    assert room_for(0) == ROOM
    assert room_for(10, growth=3) == ROOM + 30


def test_arrow_asks_the_system_unless_the_user_has_chosen() -> None:
    theirs = {"ARROW_DEFAULT_MEMORY_POOL": "jemalloc"}
    ours: dict[str, str] = {}
    choose_allocator(theirs)
    choose_allocator(ours)
    assert theirs == {"ARROW_DEFAULT_MEMORY_POOL": "jemalloc"}
    assert ours == {"ARROW_DEFAULT_MEMORY_POOL": "system"}
