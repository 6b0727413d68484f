"""Training batches that are read while the step before them runs."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Prefetcher(Generic[Batch]):
    """Calls a function of the step one step ahead, in a thread.

    Args:
        load: step -> batch. It depends on the step alone, so that batches read ahead are the same.
    """

    def __init__(self, load: Callable[[int], Batch]) -> None:
        self._load = load
        self._executor = ThreadPoolExecutor(1, "batches")  # one thread: transforms keep state during a call
        self._ahead: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int) -> Batch:
        """The batch of a step. Errors of `load` are raised for the step that they belong to."""
        ahead_of, batch = self._ahead or (None, None)
        if batch is None or ahead_of != step:
            batch = self._executor.submit(self._load, step)
        self._ahead = step + 1, self._executor.submit(self._load, step + 1)
        return batch.result()
