"""Diffusion U-Nets to train from scratch, and their number of attention heads, which diffusers does not store."""

import json
from collections.abc import Mapping
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

GROUPS = 16
HEAD_CHANNELS = 32
HEADS_FILE = "attention_heads.json"
ATTRIBUTE = "attention_heads"


class NetworkError(ValueError):
    """The settings do not describe a U-Net."""


def build_unet(settings: Mapping[str, Any]) -> Any:
    """A diffusers UNet2DModel that predicts the noise of RGB images.

    Args:
        settings: `size`, side of the training images in pixels; `channels` of each level, from fine to coarse, with
            half the size at each next level; `blocks`, residual blocks per level; `attention`, sizes of the levels
            with attention.

    Raises:
        NetworkError: the size is not divisible by 2^(levels - 1), or `attention` has a size of no level.
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
        NetworkError: the size is not divisible by 2^(levels - 1), or `attention` has a size of no level.
    """
    size, levels = settings["size"], len(settings["channels"])
    if size % 2 ** (levels - 1):
        raise NetworkError(f"size {size} cannot be halved {levels - 1} times for {levels} levels of channels")
    sizes = [size >> level for level in range(levels)]
    unknown = set(settings["attention"]) - set(sizes)
    if unknown:
        raise NetworkError(f"attention at size {min(unknown)}: the levels have the sizes {', '.join(map(str, sizes))}")
    return sizes


def set_attention_heads(unet: "nn.Module", heads: int) -> None:
    """Split every attention layer of a UNet2DModel into `heads` heads; the weights do not depend on it."""
    from diffusers.models.attention_processor import Attention

    for module in unet.modules():
        if isinstance(module, Attention):
            module.heads = heads
            module.scale = (module.inner_dim // heads) ** -0.5
    setattr(unet, ATTRIBUTE, heads)


def save_attention_heads(unet: "nn.Module", folder: Path) -> None:
    """Write the number of heads beside the U-Net if `set_attention_heads` set it."""
    heads = getattr(unet, ATTRIBUTE, None)
    if heads is not None:
        (folder / HEADS_FILE).write_text(json.dumps({ATTRIBUTE: heads}) + "\n")


def load_attention_heads(unet: "nn.Module", folder: Path) -> None:
    """Set the number of heads that `save_attention_heads` wrote, if there is such a file."""
    path = folder / HEADS_FILE
    if path.exists():
        set_attention_heads(unet, int(json.loads(path.read_text())[ATTRIBUTE]))
