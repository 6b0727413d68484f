"""Tiles against the whole image: exact where the restorer is local, smooth where it is not."""

import pytest
import torch
from torch import nn

from models.restorers import RestorerError, build_restorer
from models.restorers.contract import Restorer, restore_tiled


class _Blur(nn.Module):
    """Looks `radius` pixels far, and darkens where it looks beyond the image."""

    def __init__(self, radius: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2 * radius + 1, stride=1, padding=radius)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        blurred: torch.Tensor = self.pool(images)
        return blurred


class _Adapt(nn.Module):
    """Looks at the whole image, as attention does: subtracts half of its mean."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images - images.mean(dim=(2, 3), keepdim=True) / 2


def _restorer(network: nn.Module, multiple: int = 4) -> Restorer:
    return Restorer(network, "test", {}, multiple).eval()


def _scene(height: int = 101, width: int = 150) -> torch.Tensor:
    """Bright on the right, so that tiles have different means, with detail."""
    torch.manual_seed(0)
    slope = torch.linspace(0.3, 0.8, width).expand(1, 3, height, width)
    return slope + 0.05 * torch.rand(1, 3, height, width)


@pytest.mark.parametrize("size", [(101, 150), (48, 200), (64, 64), (65, 64), (30, 300)])
def test_exact_where_the_restorer_looks_no_further_than_a_quarter_of_the_overlap(size: tuple[int, int]) -> None:
    images, restorer = _scene(*size), _restorer(_Blur(radius=4))
    assert torch.allclose(restore_tiled(restorer, images, 48, 16), restorer(images), atol=1e-6)


def test_not_exact_where_it_looks_further() -> None:
    images, restorer = _scene(), _restorer(_Blur(radius=8))
    assert (restore_tiled(restorer, images, 48, 16) - restorer(images)).abs().max() > 1e-3


def test_exact_with_the_unet_where_the_overlap_is_four_times_its_reach() -> None:
    torch.manual_seed(0)
    restorer = build_restorer("unet", {"channels": [4, 4, 4, 4], "blocks": 1}).eval()
    nn.init.normal_(restorer.network.network.m_tail.weight, std=0.2)  # type: ignore[union-attr, arg-type]
    images = 0.3 + 0.4 * torch.rand(1, 3, 32, 640)
    whole = restorer(images)
    assert (whole - images).abs().mean() > 0.01
    changed = images.clone()
    changed[..., 320:328] = 0
    touched = (restorer(changed) - whole).abs().amax(dim=(0, 1, 2)).nonzero()
    reach = max(320 - int(touched.min()), int(touched.max()) - 327)
    assert 32 < reach <= 56
    differences = [
        (restore_tiled(restorer, images, tile, overlap) - whole).abs().max() for tile, overlap in ((448, 224), (96, 32))
    ]
    assert differences[0] < 1e-6 < 1e-4 < differences[1]


def _steps(image: torch.Tensor) -> torch.Tensor:
    """The mean change from each column to the next."""
    return (image[..., 1:] - image[..., :-1]).mean(dim=(0, 1, 2)).abs()


def test_no_seam_where_the_restorer_looks_at_the_whole_image() -> None:
    images, restorer = torch.linspace(0.3, 0.8, 150).expand(1, 3, 40, 150), _restorer(_Adapt())
    blended, cut = (restore_tiled(restorer, images, 64, overlap) for overlap in (32, 0))
    natural = _steps(restorer(images)).max()
    assert _steps(cut).max() > 10 * natural  # what a seam looks like: the two tiles' means differ
    assert _steps(blended).max() < 4 * natural  # the same difference, spread over half the overlap
    border = torch.zeros(149, dtype=torch.bool)
    border[[31, 63, 85, 95]] = True  # where tiles start and end
    assert _steps(blended)[border].max() <= _steps(blended)[~border].max()


def test_small_images_are_restored_whole_and_batches_are_kept() -> None:
    images, restorer = torch.rand(2, 3, 40, 40), _restorer(_Adapt())
    assert torch.equal(restore_tiled(restorer, images, 64, 16), restorer(images))
    large = torch.rand(2, 3, 40, 90)
    alone = torch.cat([restore_tiled(restorer, image[None], 64, 16) for image in large])
    assert torch.allclose(restore_tiled(restorer, large, 64, 16), alone, atol=1e-6)


@pytest.mark.parametrize("multiple", [1, 8, 48])
def test_every_pixel_is_covered_whatever_the_multiple(multiple: int) -> None:
    images = torch.rand(1, 3, 131, 97)
    restored = restore_tiled(_restorer(nn.Identity(), multiple), images, 50, 25)
    assert torch.allclose(restored, images, atol=1e-6)


@pytest.mark.parametrize("overlap", [-1, 33])
def test_an_overlap_that_does_not_fit(overlap: int) -> None:
    with pytest.raises(RestorerError, match=f"tile 64, overlap {overlap}: the overlap must lie between"):
        restore_tiled(_restorer(nn.Identity()), torch.rand(1, 3, 80, 80), 64, overlap)
