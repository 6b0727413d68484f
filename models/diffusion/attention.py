"""Attention with the same number of heads at every width, which the configuration of a UNet2DModel cannot state."""

import json
from pathlib import Path

from torch import nn

HEADS_FILE = "attention_heads.json"
ATTRIBUTE = "attention_heads"


def set_attention_heads(unet: nn.Module, heads: int) -> None:
    """Split every attention layer of a UNet2DModel into `heads` heads; the weights do not depend on it."""
    from diffusers.models.attention_processor import Attention

    for module in unet.modules():
        if isinstance(module, Attention):
            module.heads = heads
            module.scale = (module.inner_dim // heads) ** -0.5
    setattr(unet, ATTRIBUTE, heads)


def save_attention_heads(unet: nn.Module, folder: Path) -> None:
    """Write the number of heads beside the U-Net, where `set_attention_heads` has set it."""
    heads = getattr(unet, ATTRIBUTE, None)
    if heads is not None:
        (folder / HEADS_FILE).write_text(json.dumps({ATTRIBUTE: heads}) + "\n")


def load_attention_heads(unet: nn.Module, folder: Path) -> None:
    """Set what `save_attention_heads` wrote, where it did."""
    path = folder / HEADS_FILE
    if path.exists():
        set_attention_heads(unet, int(json.loads(path.read_text())[ATTRIBUTE]))
