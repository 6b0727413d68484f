"""An independent U-Net in ADM's names: what a converted checkpoint must compute."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TINY: dict[str, Any] = {
    "image_size": 16,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_head_channels": 16,
    "attention_downsample_factors": [2],
    "learn_sigma": True,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "use_new_attention_order": False,
}


class Reference:
    """An ADM U-Net as a plain function of weights named as in guided-diffusion, written from its paper.

    It makes its random weights as it meets them, so that the names and shapes below are its own, and runs in
    float64. Nothing of the converter is used.
    """

    def __init__(self, settings: dict[str, Any], seed: int = 0) -> None:
        self.s = settings
        self.generator = torch.Generator().manual_seed(seed)
        self.weights: dict[str, Tensor] = {}
        self.middle = torch.empty(0)

    def __call__(self, image: Tensor, timesteps: Tensor) -> Tensor:
        base = self.s["num_channels"]
        frequencies = 10000.0 ** (-torch.arange(base // 2, dtype=torch.float64) / (base // 2))
        angles = timesteps[:, None] * frequencies
        emb = torch.cat([angles.cos(), angles.sin()], 1)
        emb = self.linear("time_embed.2", F.silu(self.linear("time_embed.0", emb, 4 * base)), 4 * base)
        h = self.conv("input_blocks.0.0", image.double(), base)
        skips, index = [h], 1
        for level, mult in enumerate(self.s["channel_mult"]):
            for _ in range(self.s["num_res_blocks"]):
                h = self.block(f"input_blocks.{index}.0", h, emb, mult * base)
                h = self.attention(f"input_blocks.{index}.1", h) if self.attends(level) else h
                skips.append(h)
                index += 1
            if level + 1 < len(self.s["channel_mult"]):
                h = self.resample(f"input_blocks.{index}.0", h, emb, "down")
                skips.append(h)
                index += 1
        h = self.block("middle_block.0", h, emb, h.shape[1])
        self.middle = h = self.block("middle_block.2", self.attention("middle_block.1", h), emb, h.shape[1])
        index = 0
        for level, mult in reversed(list(enumerate(self.s["channel_mult"]))):
            for layer in range(self.s["num_res_blocks"] + 1):
                h = self.block(f"output_blocks.{index}.0", torch.cat([h, skips.pop()], 1), emb, mult * base)
                h = self.attention(f"output_blocks.{index}.1", h) if self.attends(level) else h
                if level and layer == self.s["num_res_blocks"]:
                    h = self.resample(f"output_blocks.{index}.{1 + self.attends(level)}", h, emb, "up")
                index += 1
        return self.conv("out.2", F.silu(self.norm("out.0", h)), 6 if self.s["learn_sigma"] else 3)

    def attends(self, level: int) -> bool:
        return 2**level in self.s["attention_downsample_factors"]

    def weight(self, name: str, *shape: int, around: float = 0.0) -> Tensor:
        if name not in self.weights:
            scale = 0.2 if len(shape) == 1 else 1.2 / torch.tensor(shape[1:]).prod().sqrt()
            drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64)
            self.weights[name] = (around + scale * drawn).float()  # checkpoints hold float32
        return self.weights[name].double()

    def linear(self, name: str, x: Tensor, width: int) -> Tensor:
        return x @ self.weight(f"{name}.weight", width, x.shape[1]).T + self.weight(f"{name}.bias", width)

    def conv(self, name: str, x: Tensor, width: int, size: int = 3, stride: int = 1) -> Tensor:
        kernel = self.weight(f"{name}.weight", width, x.shape[1], size, size)
        return F.conv2d(x, kernel, self.weight(f"{name}.bias", width), stride, size // 2)

    def norm(self, name: str, x: Tensor) -> Tensor:
        groups = x.unflatten(1, (32, -1)).flatten(2)
        normal = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
        shape = (-1, *(1,) * (x.ndim - 2))
        gain = self.weight(f"{name}.weight", x.shape[1], around=1.0).reshape(shape)
        return normal.reshape(x.shape) * gain + self.weight(f"{name}.bias", x.shape[1]).reshape(shape)

    def resample(self, name: str, x: Tensor, emb: Tensor, way: str) -> Tensor:
        if self.s["resblock_updown"]:
            return self.block(name, x, emb, x.shape[1], way)
        if way == "down":
            return self.conv(f"{name}.op", x, x.shape[1], stride=2)
        return self.conv(f"{name}.conv", F.interpolate(x, scale_factor=2), x.shape[1])

    def block(self, name: str, x: Tensor, emb: Tensor, width: int, way: str = "") -> Tensor:
        h = F.silu(self.norm(f"{name}.in_layers.0", x))
        if way == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        if way == "up":
            h, x = F.interpolate(h, scale_factor=2), F.interpolate(x, scale_factor=2)
        h = self.conv(f"{name}.in_layers.2", h, width)
        modulated = self.s["use_scale_shift_norm"]
        e = self.linear(f"{name}.emb_layers.1", F.silu(emb), width * (2 if modulated else 1))[:, :, None, None]
        if modulated:
            h = self.norm(f"{name}.out_layers.0", h) * (1 + e[:, :width]) + e[:, width:]
        else:
            h = self.norm(f"{name}.out_layers.0", h + e)
        h = self.conv(f"{name}.out_layers.3", F.silu(h), width)
        return h + (x if x.shape[1] == width else self.conv(f"{name}.skip_connection", x, width, size=1))

    def attention(self, name: str, x: Tensor) -> Tensor:
        channels, tokens = x.shape[1], x.flatten(2)
        per_head = self.s.get("num_head_channels", -1)
        heads = channels // per_head if per_head > 0 else self.s["num_heads"]
        weight = self.weight(f"{name}.qkv.weight", 3 * channels, channels, 1)[:, :, 0]
        qkv = weight @ self.norm(f"{name}.norm", tokens) + self.weight(f"{name}.qkv.bias", 3 * channels)[:, None]
        if self.s["use_new_attention_order"]:
            q, k, v = qkv.unflatten(1, (3, heads, -1)).unbind(1)
        else:
            q, k, v = qkv.unflatten(1, (heads, 3, -1)).unbind(2)
        scores = (q.transpose(2, 3) @ k / (channels // heads) ** 0.5).softmax(3)
        mixed = (v @ scores.transpose(2, 3)).flatten(1, 2)
        projection = self.weight(f"{name}.proj_out.weight", channels, channels, 1)[:, :, 0]
        return (tokens + projection @ mixed + self.weight(f"{name}.proj_out.bias", channels)[:, None]).reshape(x.shape)


def reference_run(settings: dict[str, Any], seed: int = 0) -> tuple[Reference, Tensor, Tensor, Tensor]:
    reference = Reference(settings, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    noisy = torch.randn(2, 3, settings["image_size"], settings["image_size"], generator=generator)
    timesteps = torch.tensor([17, 803])
    return reference, noisy, timesteps, reference(noisy, timesteps)
