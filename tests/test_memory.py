"""Memory stays flat as data grow: no stage keeps all images, masks or boxes at once."""

import pytest

from benchmarks.memory import peaks

GROWTH = 1.10
SIDE = 64


@pytest.mark.slow
def test_ten_times_the_images_take_no_more_memory() -> None:
    few, many = (peaks(images, SIDE) for images in (200, 2000))
    ratios = {stage: many[stage] / few[stage] for stage in few}
    assert all(ratio < GROWTH for ratio in ratios.values()), ratios
