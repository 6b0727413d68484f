#!/usr/bin/env python
"""Train a small network on photos that are made foggy, with an L1 loss and DiffLoss."""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from restoration_for_recognition.data.degradations import degrade
from restoration_for_recognition.models.diffusion.prior import DiffusionPrior
from restoration_for_recognition.models.losses.diffloss import DiffLoss
from torch import nn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("photos", type=Path, help="folder of clean photos")
parser.add_argument("--prior", default="google/ddpm-church-256", help="diffusers folder or hub id of a UNet2DModel")
parser.add_argument("--size", type=int, default=128, help="side of the training images in pixels")
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--batch", type=int, default=4)
options = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"


def load_pair(path: Path, seed: int) -> torch.Tensor:
    """A foggy and a clean photo, (2, 3, size, size) in [0, 1]."""
    clean = np.array(Image.open(path).convert("RGB").resize((options.size, options.size)))
    pair = np.stack([degrade(clean, "fog", severity=3, seed=seed), clean])
    return torch.from_numpy(pair).permute(0, 3, 1, 2) / 255


torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 3, 3, padding=1)).to(device)
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
diffloss = DiffLoss(DiffusionPrior.load(options.prior), timestep_range=(5, 300)).to(device)

paths = sorted(path for path in options.photos.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
for step in range(options.steps):
    chosen = np.random.default_rng(step).choice(len(paths), options.batch)
    pairs = torch.stack([load_pair(paths[index], seed=step) for index in chosen]).to(device)
    degraded, clean = pairs[:, 0], pairs[:, 1]
    restored = (degraded + network(degraded)).clamp(0, 1)  # DiffLoss takes images in [0, 1]
    pixel = nn.functional.l1_loss(restored, clean)
    terms = diffloss(restored, clean)
    loss = pixel + 0.1 * terms.total
    optimizer.zero_grad()
    loss.backward()  # the gradient flows through the frozen U-Net into `network`
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step}: pixel {pixel.item():.4f}, DiffLoss {terms.total.item():.4f}")
torch.save(network.state_dict(), "network.pth")
