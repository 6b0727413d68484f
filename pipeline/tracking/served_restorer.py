"""A restorer as MLflow loads it. This file is part of the logged model, and runs wherever the model is loaded.

Inputs and outputs are uint8 RGB (N, H, W, 3). The pixels are those of the stage `restore` in float32.
It imports only what is logged beside it, so that it runs without this project. MLflow runs it also to log a model:
torch, which that does not need, is imported where it is used.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

if TYPE_CHECKING:
    from torch import Tensor


class ServedRestorer(PythonModel):
    """Restores batches, in tiles if the run that trained it used tiles."""

    def load_context(self, context: Any) -> None:
        """Read the weights."""
        from models.restorers import load_restorer

        self._restorer = load_restorer(context.artifacts["restorer"])
        self._tile: int | None = context.model_config["tile"]
        self._overlap: int = context.model_config["overlap"]

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Restore uint8 RGB (N, H, W, 3), one image after the other."""
        import torch

        from data import images

        with torch.inference_mode():
            restored = [self._restore(images.to_tensor(image)[None])[0] for image in model_input]
            return np.stack([images.to_uint8(image) for image in restored])

    def _restore(self, batch: "Tensor") -> "Tensor":
        """Images (N, 3, H, W) in [0, 1], restored."""
        from models.restorers.contract import restore_tiled

        if self._tile is None:
            return self._restorer(batch)
        return restore_tiled(self._restorer, batch, self._tile, self._overlap)


set_model(ServedRestorer())
