"""What is done beside the queries: again and again, in one thread, and as often at the end as is asked."""

import threading

import pytest

from stream_app.observe.regularly import regularly
from tests.helpers import wait_until

LONG = 3_600.0


def test_it_is_done_again_and_again_in_a_thread_of_its_name_that_ends_with_the_block() -> None:
    threads: list[str] = []
    with regularly(lambda: threads.append(threading.current_thread().name), 0.001, "beside"):
        wait_until(lambda: len(threads) > 2)
    done = len(threads)
    assert {*threads} == {"beside"}
    assert "beside" not in {thread.name for thread in threading.enumerate()}
    assert len(threads) == done


@pytest.mark.parametrize(("once_more", "times"), [(True, 1), (False, 0)])
def test_only_where_it_is_asked_for_it_is_done_at_the_end(once_more: bool, times: int) -> None:
    done: list[None] = []
    with regularly(lambda: done.append(None), LONG, "beside", once_more=once_more):
        pass
    assert len(done) == times


def test_it_is_done_at_the_start_too_where_that_is_asked_for() -> None:
    done = threading.Event()
    with regularly(done.set, LONG, "beside", at_once=True):
        assert done.wait(60)


def test_the_end_of_a_block_that_failed_is_one_too() -> None:
    done: list[None] = []
    with pytest.raises(KeyError), regularly(lambda: done.append(None), LONG, "beside", once_more=True):
        raise KeyError
    assert len(done) == 1


def test_the_end_does_not_wait_beyond_its_patience() -> None:
    begun, free = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        free.wait()

    with regularly(hang, 0.001, "beside", patience=0.01):
        begun.wait()
    (left,) = (thread for thread in threading.enumerate() if thread.name == "beside")
    free.set()
    left.join()
