from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from data.manifest import Dataset
from pipeline.fidelity import LARGEST_PSNR, psnr, ssim
from pipeline.quality import FolderReader, measure


def _pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return clean, np.clip(clean + rng.normal(0, 20, clean.shape), 0, 255).astype(np.uint8)


def _batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].double()


def test_psnr_is_torchmetrics() -> None:
    clean, noisy = _pair()
    expected = peak_signal_noise_ratio(_batch(noisy), _batch(clean), data_range=255.0)
    assert psnr(noisy, clean) == pytest.approx(float(expected), abs=1e-5)
    assert psnr(clean, clean) == LARGEST_PSNR


def test_ssim_is_close_to_another_implementation() -> None:
    clean, noisy = _pair()
    expected = structural_similarity_index_measure(_batch(noisy), _batch(clean), data_range=255.0)
    assert ssim(noisy, clean) == pytest.approx(float(expected), abs=0.02)  # they treat the border differently
    assert ssim(clean, clean) == pytest.approx(1.0)


def test_mean_over_images(make_dataset: Callable[..., Dataset]) -> None:
    split = make_dataset().split("test")
    records = measure(split, FolderReader(split.folder / "images"))
    assert records.image_ids == split.ids
    assert records.metrics()["PSNR"][0] == LARGEST_PSNR
