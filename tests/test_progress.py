"""Progress bars."""

import pytest

from pipeline.running import progress
from pipeline.running.progress import with_progress


def test_a_bar_counts_the_items_that_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = []

    def spy(*arguments: object, **options: object) -> object:
        bars.append(original(*arguments, **options))
        return bars[-1]

    original = progress.tqdm
    monkeypatch.setattr(progress, "tqdm", spy)
    counts = []
    for item in with_progress(["a", "b", "c"], "report: scores", "table"):
        counts.append((item, bars[0].n))
    assert counts == [("a", 0), ("b", 1), ("c", 2)]
    assert (bars[0].n, bars[0].total, bars[0].desc) == (3, 3, "report: scores")
