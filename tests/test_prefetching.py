"""Batches read ahead are those of their step, whatever step is asked for, and errors come with their step."""

import threading

import pytest

from data.prefetching import Prefetcher


def test_each_step_gets_its_batch_and_the_next_one_is_read_meanwhile() -> None:
    read: list[int] = []
    second = threading.Event()

    def load(step: int) -> int:
        read.append(step)
        if step == 8:
            second.set()
        return step * step

    batches = Prefetcher(load)
    assert batches(7) == 49
    assert second.wait(10)
    assert [batches(step) for step in (8, 9, 3, 4)] == [64, 81, 9, 16]
    assert read.count(8) == 1


def test_an_error_is_raised_for_its_step() -> None:
    def load(step: int) -> int:
        if step == 2:
            raise ValueError("broken image")
        return step

    batches = Prefetcher(load)
    assert batches(1) == 1
    with pytest.raises(ValueError, match="broken image"):
        batches(2)
