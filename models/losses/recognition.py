"""The loss `recognition`: the training loss of a frozen task network on the labels of the training images.

Liu et al., "When image denoising meets high-level vision tasks: a deep learning approach", IJCAI 2018. An
alternative to DiffLoss: it needs labels and one task network, and no diffusion prior.
"""

import torch
from torch import Tensor

from . import LossError
from .term import Labels, LossInputs, Term, TermSettings


class Settings(TermSettings):
    """Whose training loss, and the raw weight.

    Attributes:
        network: the task whose trained network gives the loss.
        raw_weight: for [0,1] images.
    """

    network: str = "detection"
    raw_weight: float = 0.1


class Recognition(Term):
    """The network's training loss at the restored images. The clean images do not count."""

    needs_task = True
    needs_labels = True
    settings: Settings

    def __init__(self, settings: Settings, inputs: LossInputs) -> None:
        super().__init__(settings, inputs)
        assert inputs.task_loss is not None  # `build_objective` has raised otherwise
        self._task_loss = inputs.task_loss

    @property
    def raw_weights(self) -> dict[str, float]:
        """The weight of the only component."""
        return {"recognition": self.settings.raw_weight}

    def forward(
        self, restored: Tensor, clean: Tensor, generator: torch.Generator, labels: Labels | None = None
    ) -> dict[str, Tensor]:
        """The component `recognition`; `labels` are those of the images.

        Raises:
            LossError: there are no labels, or the network's loss carries no gradient.
        """
        if labels is None:
            raise LossError("recognition: needs the labels of the images; pass labels to the objective")
        loss = self._task_loss(restored, labels)  # scalar
        if torch.is_grad_enabled() and restored.requires_grad and not loss.requires_grad:
            raise LossError("recognition: the network's loss carries no gradient; do not compute it under no_grad")
        return {"recognition": loss.float()}
