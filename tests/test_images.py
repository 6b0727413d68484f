from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data import images


def _random(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def test_image_round_trip_and_channel_order(tmp_path: Path) -> None:
    image = _random((7, 9, 3))
    images.write_image(tmp_path / "a.png", image)
    assert np.array_equal(images.read_image(tmp_path / "a.png"), image)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[:, :, ::-1], image)


def test_mask_and_depth_round_trip(tmp_path: Path) -> None:
    mask = _random((5, 6))
    images.write_mask(tmp_path / "m.png", mask)
    assert np.array_equal(images.read_mask(tmp_path / "m.png"), mask)
    depth = np.array([[0.5, 100.25], [255.9, 1e6]], dtype=np.float32)
    images.write_depth(tmp_path / "d.png", depth)
    assert np.allclose(images.read_depth(tmp_path / "d.png"), np.minimum(depth, 65535 / 256), atol=1 / 512)


def test_tensor_round_trip() -> None:
    image = _random((4, 5, 3))
    tensor = images.to_tensor(image)
    assert tensor.shape == (3, 4, 5) and tensor.min() >= 0 and tensor.max() <= 1
    assert np.array_equal(images.to_uint8(tensor), image)
    assert images.to_uint8(torch.full((3, 1, 1), 1.7)).max() == 255


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_unreadable_image_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(images.ImageError, match=r"broken\.png"):
        images.read_image(path)


def test_colour_image_is_no_mask(tmp_path: Path) -> None:
    images.write_image(tmp_path / "a.png", _random((4, 4, 3)))
    with pytest.raises(images.ImageError, match="one 8-bit channel"):
        images.read_mask(tmp_path / "a.png")
    with pytest.raises(images.ImageError, match="one 16-bit channel"):
        images.read_depth(tmp_path / "a.png")
