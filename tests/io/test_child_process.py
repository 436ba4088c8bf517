"""What other processes yield comes back as it is made, and so does what goes wrong there."""

import os
import time

import pytest

from vipa.io.child_process import yielded_beside


def counted(first: int, last: int, seconds: float = 0.0):
    for number in range(first, last):
        time.sleep(seconds)
        yield number


def broken(number: int):
    yield number
    raise ValueError(f"no {number + 1} today")


def gone():
    yield 0
    os._exit(3)


def test_all_shares_come_back_each_in_its_order():
    heard = list(yielded_beside(counted, [(0, 50), (100, 150)]))
    assert sorted(heard) == [*range(50), *range(100, 150)]
    assert [number for number in heard if number < 100] == list(range(50))


def test_an_exception_there_is_raised_here_and_ends_the_others():
    heard = yielded_beside(broken, [(7,)])
    assert next(heard) == 7
    with pytest.raises(ValueError, match="no 8 today"):
        next(heard)


def test_a_process_that_ends_without_a_word_is_told():
    with pytest.raises(RuntimeError, match="ended without a word"):
        list(yielded_beside(gone, [()]))


def test_who_stops_listening_ends_them():
    stream = yielded_beside(counted, [(0, 10**9, 0.01)])
    assert next(stream) == 0
    start = time.perf_counter()
    stream.close()
    assert time.perf_counter() - start < 5
