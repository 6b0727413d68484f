from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from scipy import ndimage
from skimage import data as photos
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure, peak_signal_noise_ratio

from data.dataset import Dataset
from data.degradations import degrade
from pipeline.metrics.fidelity import LARGEST_PSNR, SMALLEST_SIDE, psnr, ssim, ssim_at_all_scales
from pipeline.metrics.image_quality import ImageQuality, blur, image_measures, network_measures
from pipeline.metrics.piqe import piqe
from pipeline.quality import measure

CPU = torch.device("cpu")


def _pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return clean, np.clip(clean + rng.normal(0, 20, clean.shape), 0, 255).astype(np.uint8)


def _batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].double()


@pytest.mark.parametrize("name", ImageQuality.measures)
def test_a_measure_is_declared_pure_and_prefers_the_clean_image(name: str) -> None:
    (metric,) = (metric for metric in ImageQuality.metrics if metric.name == name)
    measure = ImageQuality.measures[name]
    rough = np.random.default_rng(0).normal(0, 1, (48, 64, 3))
    clean = np.clip(128 + 200 * ndimage.gaussian_filter(rough, (2, 2, 0)), 0, 255).astype(np.uint8)
    worse = ndimage.uniform_filter(clean, (7, 7, 1))
    for array in (clean, worse):
        array.setflags(write=False)
    best, value = measure(clean, clean), measure(worse, clean)
    assert type(best) is type(value) is float and np.isfinite([best, value]).all()
    assert best > value if metric.higher_is_better else best < value
    assert measure(worse, clean) == value


def test_psnr_is_torchmetrics() -> None:
    clean, noisy = _pair()
    expected = peak_signal_noise_ratio(_batch(noisy), _batch(clean), data_range=255.0)
    assert psnr(noisy, clean) == pytest.approx(float(expected), abs=1e-5)
    assert psnr(clean, clean) == LARGEST_PSNR


def _nearly_flat(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright image and a version of it; their variance is the difference of two large numbers."""
    clean = np.full((height, width, 3), 250, np.uint8)
    clean[height // 3 : height // 2, width // 4 : width // 2] = 235
    return clean, (clean - np.random.default_rng(0).integers(0, 6, clean.shape)).astype(np.uint8)


def _smooth(height: int, width: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rough = ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (4, 4, 0))
    clean = np.clip(128 + 300 * rough, 0, 255).astype(np.uint8)
    return clean, np.clip(clean + rng.normal(0, noise, clean.shape), 0, 255).astype(np.uint8)


PAIRS = {
    "noise": _pair(),
    "smooth": _smooth(160, 224, 3),
    "odd": _smooth(33, 47, 40),
    "nearly flat": _nearly_flat(90, 120),
    "dark": tuple(image // 40 for image in _pair()),
    "inverted": (_pair()[0], 255 - _pair()[0]),
    "equal": (_pair()[0], _pair()[0]),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_ssim_is_scikit_images(pair: tuple[np.ndarray, np.ndarray]) -> None:
    expected = structural_similarity(
        *pair, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(pair[1], pair[0]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shape", [(10, 40), (40, 10)])
def test_ssim_needs_the_window(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    with pytest.raises(ValueError, match="SSIM needs at least 11 pixels"):
        ssim(image, image)


def test_mean_over_images(make_dataset: Callable[..., Dataset]) -> None:
    split = make_dataset().split("test")
    readers = {("same", "test"): split.image, ("mirrored", "test"): lambda name: split.image(name)[:, ::-1]}
    records = measure(split, readers, ImageQuality.measures)
    assert all(scores.image_ids == split.ids for scores in records.values())
    assert records["same", "test"].metrics()["PSNR"][0] == LARGEST_PSNR
    expected = np.mean([psnr(split.image(name)[:, ::-1], split.image(name)) for name in split.ids])
    assert records["mirrored", "test"].metrics()["PSNR"][0] == pytest.approx(expected)


def test_blur_is_what_blurring_raises_and_flat_images_are_defined() -> None:
    clean, _ = _pair()
    smooth = ndimage.uniform_filter(clean, (5, 5, 1))
    assert 0 <= blur(clean, clean) < blur(smooth, clean) < 1
    assert blur(np.zeros_like(clean), clean) == 1  # nothing is sharp there


def _piqe_images() -> dict[str, np.ndarray]:
    photo, rng = photos.astronaut(), np.random.default_rng(0)
    noisy = np.clip(photo + rng.normal(0, 25, photo.shape), 0, 255).astype(np.uint8)
    blocks = photo.reshape(64, 8, 64, 8, 3).mean(axis=(1, 3)).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    return {
        "photo": photo,
        "odd": photo[:203, 100:333],
        "noisy": noisy,
        "blocks": blocks,
        "blurred": cv2.GaussianBlur(photo, (0, 0), 3),
        "dark": photo // 12,
        "small": np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8),
    }


PYPIQE = {  # what pypiqe 1.2 returns for the same images in BGR
    "photo": 33.66154221836559,
    "odd": 20.00080771553933,
    "noisy": 56.12596865078295,
    "blocks": 84.78946926336651,
    "blurred": 91.86930090283022,
    "dark": 62.721645703142755,
    "small": 85.17954930715781,
}


@pytest.mark.parametrize("name", PYPIQE)
def test_piqe_is_pypiqes(name: str) -> None:
    image = _piqe_images()[name]
    assert piqe(image, image) == pytest.approx(PYPIQE[name], abs=1e-6)


def test_piqe_of_flat_images_and_without_the_clean_image() -> None:
    clean, noisy = _pair()
    assert piqe(noisy, clean) == piqe(noisy, noisy) != piqe(clean, clean)
    for grey in (0, 128, 255):
        assert piqe(np.full((40, 40, 3), grey, np.uint8), clean) == 100


def test_what_piqe_sees_and_what_it_does_not() -> None:
    """Noise and compression raise it with their severity; a stronger motion blur does not."""
    pictures = [photos.astronaut()[:400, :400], photos.coffee(), photos.chelsea()]

    def mean(recipe: str, severity: int) -> float:
        return float(np.mean([piqe(degrade(picture, recipe, severity, 0), picture) for picture in pictures]))

    clean = float(np.mean([piqe(picture, picture) for picture in pictures]))
    for recipe in ("noise", "jpeg"):
        assert clean < mean(recipe, 1) < mean(recipe, 5)
    assert mean("blur-motion", 5) < mean("blur-motion", 1)


def test_metrics_without_a_reference_are_measured_if_asked_for(make_dataset: Callable[..., Dataset]) -> None:
    measures, _ = image_measures(make_dataset().split("test"), ["PIQE"])
    assert [*measures] == [*ImageQuality.measures, "PIQE"]
    assert [*ImageQuality.measures_without_reference(["PIQE"])] == ["blur", "PIQE"]
    assert [*ImageQuality.measures_without_reference()] == ["blur"]
    declared = {metric.name: metric for metric in ImageQuality.metrics}
    assert not any(declared[name].higher_is_better for name in ImageQuality.no_reference)


def _by_hand(image: np.ndarray, clean: np.ndarray) -> float:
    """Wang et al. 2003 in NumPy: contrast and structure at five scales, luminance at the coarsest."""
    x, y = (one.astype(np.float64).transpose(2, 0, 1) for one in (image, clean))
    found = 1.0
    for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        luminance, contrast = _parts(x, y)
        found *= max(np.mean(contrast if scale < 4 else luminance * contrast), 0) ** weight
        x, y = (one[:, : one.shape[1] // 2 * 2, : one.shape[2] // 2 * 2] for one in (x, y))
        x, y = (one.reshape(3, one.shape[1] // 2, 2, one.shape[2] // 2, 2).mean(axis=(2, 4)) for one in (x, y))
    return float(found)


def _parts(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luminance, and contrast times structure, where the window of 11 lies within the image."""

    def mean(one: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(one, (0, 1.5, 1.5), truncate=3.4)[:, 5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    return luminance, (2 * (mean(x * y) - mx * my) + c2) / (mean(x * x) - mx**2 + mean(y * y) - my**2 + c2)


def test_ms_ssim_by_hand() -> None:
    clean, noisy = _smooth(176, 200, 40)
    assert ssim_at_all_scales(noisy, clean)["MS-SSIM"] == pytest.approx(_by_hand(noisy, clean), abs=2e-3)
    assert 0.3 < ssim_at_all_scales(noisy, clean)["MS-SSIM"] < 0.97
    assert ssim_at_all_scales(clean, clean)["MS-SSIM"] == pytest.approx(1)


LARGE_PAIRS = {
    "smooth": _smooth(176, 200, 40),
    "odd": _smooth(190, 187, 10),
    "nearly flat": _nearly_flat(176, 200),
    "unlike": (_smooth(176, 200, 0)[0], 255 - _smooth(176, 200, 0)[0]),
}


@pytest.mark.parametrize("pair", LARGE_PAIRS.values(), ids=LARGE_PAIRS)
def test_ms_ssim_is_torchmetrics(pair: tuple[np.ndarray, np.ndarray]) -> None:
    expected = multiscale_structural_similarity_index_measure(_batch(pair[1]), _batch(pair[0]), data_range=255.0)
    assert ssim_at_all_scales(pair[1], pair[0])["MS-SSIM"] == pytest.approx(float(expected), abs=1e-4)
    assert ssim_at_all_scales(pair[1], pair[0])["SSIM"] == ssim(pair[1], pair[0])


def test_what_cannot_be_measured_is_left_out_by_name(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    measures, missing = network_measures(CPU)
    assert not measures and "alexnet-owt-7be5be79.pth" in missing["LPIPS"]
    measures, missing = image_measures(make_dataset().split("test"))
    assert set(measures) == set(ImageQuality.measures) and "'test0' has 48" in missing["MS-SSIM"]
    measures, missing = image_measures(make_dataset("narrow", size=(SMALLEST_SIDE - 1, 180)).split("test"))
    assert "MS-SSIM" not in measures and set(missing) == {"MS-SSIM"}
    measures, missing = image_measures(make_dataset("large", size=(SMALLEST_SIDE, 180)).split("test"))
    assert set(measures) == set(ImageQuality.measures) and not missing
    assert measures["SSIM"] is ssim_at_all_scales  # which measures MS-SSIM, too


@pytest.mark.parametrize("upright", [True, False])
def test_the_smallest_image_that_ms_ssim_takes(upright: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (SMALLEST_SIDE, 200, 3), dtype=np.uint8)
    image = image if upright else image.transpose(1, 0, 2)
    assert ssim_at_all_scales(image, image)["MS-SSIM"] == pytest.approx(1)
    smaller = image[1:] if upright else image[:, 1:]
    with pytest.raises(ValueError, match="MS-SSIM needs at least 176 pixels"):
        ssim_at_all_scales(smaller, smaller)["MS-SSIM"]


@pytest.mark.filterwarnings("ignore:The parameter 'pretrained':UserWarning", "ignore:Arguments other than:UserWarning")
def test_lpips_where_its_backbone_is_cached(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random backbone weights in the place of torchvision's: what is tested is the path, not the metric."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), folder / "alexnet-owt-7be5be79.pth")
    split = make_dataset().split("test")
    measures, _ = network_measures(CPU)
    records = measure(split, {("same", "test"): split.image}, ImageQuality.measures, measures)["same", "test"]
    assert list(records.values) == [*ImageQuality.measures, "LPIPS"]
    assert records.metrics()["LPIPS"][0] == pytest.approx(0, abs=1e-6)
    clean, noisy = _pair()
    assert measures["LPIPS"](noisy, clean) > 0
