"""Sliders: images get smaller, and then fewer, until they fit a budget of bytes."""

import numpy as np

from pipeline.reporting.prediction_pictures import SLIDER_BUDGET, embed, make_sliders


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


def test_a_picture_is_embedded_if_it_fits() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    uri = embed(picture, 1_000_000)
    assert uri.startswith("data:image/jpeg;base64,")
    assert embed(picture, len(uri)) == uri and embed(picture, len(uri) - 1) == ""
