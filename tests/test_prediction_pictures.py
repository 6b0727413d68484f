"""Sliders: images get smaller, and then fewer, until they fit a budget of bytes."""

from base64 import b64decode

import cv2
import numpy as np
import pytest

from pipeline.reporting.pictures import jpeg
from pipeline.reporting.prediction_pictures import EXTREMES_WIDTH, SLIDER_BUDGET, embed, make_sliders


def test_pictures_are_made_smaller_until_they_fit() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (360, 480, 3), dtype=np.uint8) for _ in range(3)]
    columns = dict.fromkeys(("degraded", "pixel", "clean"), noise)
    image_ids = ["a", "b", "c"]
    sizes = {}
    for groups in (1, 10, 40, 100):
        sliders = make_sliders(image_ids, columns, SLIDER_BUDGET // groups)
        sizes[groups] = sum(len(uri) for slider in sliders for uri in slider.versions.values())
        assert sizes[groups] * groups <= SLIDER_BUDGET * 4 / 3 * 1.1, groups
        assert sliders and [slider.image for slider in sliders] == image_ids[: len(sliders)]
    assert sizes[1] > sizes[10] > sizes[40]


@pytest.mark.parametrize("width", [EXTREMES_WIDTH, EXTREMES_WIDTH + 40])
def test_a_picture_is_embedded_if_it_fits(width: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, width, 3), dtype=np.uint8)
    content = jpeg(picture)
    uri = embed(picture, content, 1_000_000)
    embedded = b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    assert (embedded == content) == (width == EXTREMES_WIDTH)
    shown = cv2.imdecode(np.frombuffer(embedded, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape[1] == EXTREMES_WIDTH
    assert embed(picture, content, len(uri)) == uri and embed(picture, content, len(uri) - 1) == ""
