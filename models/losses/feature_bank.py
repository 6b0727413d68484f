"""A bank of fixed (t, noise) pairs for each clean view, with the prior's features of the noisy clean view cached.

The clean branch of DiffLoss is then evaluated once for each pair instead of at every step. An entry is found by
the pixels of the clean view, so the bank works with any data loader and serves wherever the same clean view comes
again: fixed crops, a grid of crops, the eight flips and turns of a crop. Crops at random positions hardly ever
come again; there it only costs.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..data_parallel import WHOLE, BatchShare
from .diffusion_options import TimestepSampler
from .term import LossError


class Drawn(NamedTuple):
    """Bank entries for a batch."""

    keys: list[str]
    timesteps: Tensor  # (N,) int64
    noise: Tensor  # (N,C,h,w)


class FeatureBank:
    """Fixed pairs by content of the clean view; features in memory, or on disk where a folder is given.

    Args:
        draws: pairs for each clean view.
        folder: where features lie as .safetensors, below one folder for each prior and setting; None for memory.
        seed: seed of all pairs.

    Raises:
        LossError: draws below 1.
    """

    def __init__(self, draws: int = 4, folder: Path | None = None, seed: int = 0) -> None:
        if draws < 1:
            raise LossError(f"bank_draws={draws}: expected at least 1")
        self.draws, self.folder, self.seed = draws, folder, seed
        self._memory: dict[str, dict[str, Tensor]] = {}

    def draw(
        self,
        clean: Tensor,
        like: Tensor,
        sampler: TimestepSampler,
        generator: torch.Generator,
        share: BatchShare = WHOLE,
    ) -> Drawn:
        """Choose one of the fixed pairs for each clean view (N,3,H,W); the noise has the shape of `like`."""

        def choose(count: int) -> Tensor:
            return torch.randint(self.draws, (count,), generator=generator, device=generator.device)

        choices = share.of(choose, len(clean)).tolist()
        keys, timesteps, noise = [], [], []
        for view, choice in zip(clean.detach().cpu(), choices, strict=True):
            digest = hashlib.blake2b(view.contiguous().numpy().tobytes(), digest_size=16).hexdigest()
            keys.append(f"{digest}-{'x'.join(map(str, view.shape[1:]))}-{choice}")
            own = torch.Generator().manual_seed(_seed(self.seed, keys[-1]))
            timesteps.append(sampler.draw(1, own))
            noise.append(torch.randn(like.shape[1:], generator=own))
        return Drawn(keys, torch.cat(timesteps).to(like.device), torch.stack(noise).to(like))

    def fetch(self, scope: str, keys: list[str], compute: Callable[[int], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Features by name, (N,...) each, of the entries `keys`.

        `compute(i)` gives those of one entry, (...) each. Entries are computed one by one, so that their values
        do not depend on what else was in the batch when they were first met.

        Args:
            scope: what the features depend on besides the entry: the prior and the settings.
            keys: the entries, as drawn.
            compute: called for those that are not there yet.
        """
        entries = []
        for index, key in enumerate(keys):
            entry = self._read(scope, key)
            if entry is None:
                entry = {name: value.detach().cpu().contiguous() for name, value in compute(index).items()}
                self._write(scope, key, entry)
            entries.append(entry)
        return {name: torch.stack([entry[name] for entry in entries]) for name in entries[0]}

    def _read(self, scope: str, key: str) -> dict[str, Tensor] | None:
        if self.folder is None:
            return self._memory.get(f"{scope}/{key}")
        path = self._path(scope, key)
        if not path.exists():
            return None
        from safetensors.torch import load_file

        return load_file(path)

    def _write(self, scope: str, key: str, entry: dict[str, Tensor]) -> None:
        if self.folder is None:
            self._memory[f"{scope}/{key}"] = entry
            return
        from safetensors.torch import save_file

        path = self._path(scope, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")  # a killed run leaves no half-written entry
        save_file(entry, partial)
        partial.replace(path)

    def _path(self, scope: str, key: str) -> Path:
        if self.folder is None:
            raise LossError("this bank is kept in memory")
        return self.folder / scope / f"{key}.safetensors"


def _seed(seed: int, key: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()) >> 1
