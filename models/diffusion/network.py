"""Small diffusion U-Nets to train from scratch."""

from collections.abc import Mapping
from math import gcd
from typing import Any

GROUPS = 16
HEAD_CHANNELS = 32


class NetworkError(ValueError):
    """Settings that no U-Net can be built from."""


def build_unet(settings: Mapping[str, Any]) -> Any:
    """A diffusers UNet2DModel that predicts the noise of RGB images.

    Args:
        settings: `size`, side of the training images in pixels; `channels` of each level, each half as large as
            the one before; `blocks`, residual blocks a level; `attention`, sizes at which levels attend.

    Raises:
        NetworkError: the size cannot be halved so often, or attention at a size that no level has.
    """
    from diffusers import UNet2DModel

    sizes = check_sizes(settings)
    attends = [size in settings["attention"] for size in sizes]
    return UNet2DModel(
        sample_size=settings["size"],
        in_channels=3,
        out_channels=3,
        layers_per_block=settings["blocks"],
        block_out_channels=tuple(settings["channels"]),
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
        attention_head_dim=gcd(HEAD_CHANNELS, *settings["channels"]),
        norm_num_groups=gcd(GROUPS, *settings["channels"]),
    )


def build_scheduler(settings: Mapping[str, Any]) -> Any:
    """The noise schedule: `steps` and `kind` (diffusers' beta_schedule), epsilon prediction."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(num_train_timesteps=settings["steps"], beta_schedule=settings["kind"])


def check_sizes(settings: Mapping[str, Any]) -> list[int]:
    """The side of each level of a U-Net with these settings, from fine to coarse.

    Raises:
        NetworkError: the size cannot be halved so often, or attention at a size that no level has.
    """
    size, levels = settings["size"], len(settings["channels"])
    if size % 2 ** (levels - 1):
        raise NetworkError(f"size {size} cannot be halved {levels - 1} times for {levels} levels of channels")
    sizes = [size >> level for level in range(levels)]
    strange = set(settings["attention"]) - set(sizes)
    if strange:
        raise NetworkError(f"attention at size {min(strange)}: the levels have the sizes {', '.join(map(str, sizes))}")
    return sizes
