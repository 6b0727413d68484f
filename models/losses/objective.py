"""What a restorer is trained on: the pixel loss plus terms, each at a stated strength."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..data_parallel import WHOLE, BatchShare
from .pixel import PIXEL_LOSSES
from .term import LossError, PixelSettings, Term, check_range

WINDOW = 20  # measurements over which the running means of the gradient norms reach back
WARM_UP = 5  # the first measurements are made at consecutive steps


class ObjectiveOutput(NamedTuple):
    """One evaluation of an objective."""

    total: Tensor  # scalar; its gradient is the weighted sum of all gradients
    logs: dict[str, float]  # each component's value; "<component>_ratio", its gradient norm against the pixel's


class Objective(nn.Module):
    """pixel + terms, as one scalar to call backward on.

    The gradient of each component is taken at the restored image, cut off from the restorer; their weighted
    sum then goes through the restorer once. With weighting "ratio" a component's factor is
    strength * |pixel gradient| / |its gradient|, both norms being running means over the last measurements.
    The means and the step are buffers, so a training that is resumed from `state_dict` goes on bit for bit.
    The frozen networks behind the terms follow `.to()`, but are neither parameters nor part of `state_dict`.

    `restored` is a restorer's raw output, which may leave [0,1]: the pixel loss sees it raw, the terms see it
    clamped, with the gradient passed straight through the clamp.

    Args:
        pixel: settings of the pixel loss.
        terms: the other terms by name.
        share: which part of each batch it is given; norms are those of whole batches.

    Raises:
        LossError: two terms share a component, or a setting is out of range.
    """

    step: Tensor
    norms: Tensor
    counts: Tensor

    def __init__(self, pixel: PixelSettings, terms: Mapping[str, Term], share: BatchShare = WHOLE) -> None:
        super().__init__()
        names = ["pixel", *(name for term in terms.values() for name in term.raw_weights)]
        if len(set(names)) != len(names):
            raise LossError(f"objective {' + '.join(terms)}: a component occurs twice in {', '.join(names)}")
        self._share = share
        self._terms = tuple(terms.values())  # a tuple, so that their networks are not registered
        self._index = {name: index for index, name in enumerate(names)}
        self._pixel_loss: Callable[[Tensor, Tensor], Tensor] = PIXEL_LOSSES[pixel.kind]
        self._pixel_weight = pixel.weight
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("norms", torch.zeros(len(names), dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(len(names), dtype=torch.int64))

    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> ObjectiveOutput:
        """Evaluate at restored and clean images (N,3,H,W), clean in [0,1]; all randomness is the generator's.

        Without gradient (validation) all terms are evaluated and nothing is counted or measured.

        Raises:
            LossError: shapes that differ, a clean image outside [0,1], or a restored one that is not finite.
        """
        restored = restored.float()
        _check(restored, clean)
        training = torch.is_grad_enabled() and restored.requires_grad
        leaf = restored.detach().requires_grad_(training)
        pixel = self._pixel_loss(leaf, clean)
        logs = {"pixel": pixel.item()}
        gradient = self._measured(leaf, {"pixel": pixel})["pixel"] if training else torch.zeros_like(leaf)
        gradient, value = gradient * self._pixel_weight, pixel.detach() * self._pixel_weight
        seen = leaf + (leaf.clamp(0, 1) - leaf).detach()
        for term in self._terms:
            if training and not self._is_due(term):
                continue
            components = term(seen, clean, generator)
            if training:
                gradient = gradient + self._term_gradient(term, leaf, components)
            for name, component in components.items():
                value = value + self._weight(term, name) * component.detach()
                logs |= {name: component.item(), f"{name}_ratio": self._ratio(term, name)}
        if training:
            self.step += 1
            value = value + ((restored - restored.detach()) * gradient).sum()
        return ObjectiveOutput(value, logs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Objective":
        for term in self._terms:
            term._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _term_gradient(self, term: Term, leaf: Tensor, components: dict[str, Tensor]) -> Tensor:
        """The weighted gradient of a term, with the norms measured first where that is due."""
        if self._measurement_due(term):
            gradients = self._measured(leaf, components)
            return torch.stack([self._weight(term, name) * gradients[name] for name in gradients]).sum(0)
        weighted = torch.stack([self._weight(term, name) * value for name, value in components.items()])
        return torch.autograd.grad(weighted.sum(), leaf)[0]

    def _is_due(self, term: Term) -> bool:
        since = int(self.step) - term.settings.from_step
        return since >= 0 and since % term.settings.every == 0

    def _measurement_due(self, term: Term) -> bool:
        evaluations = (int(self.step) - term.settings.from_step) // term.settings.every
        return evaluations < WARM_UP or evaluations % term.settings.calibrate_every == 0

    def _measured(self, leaf: Tensor, components: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradient of each component, with its norm taken into the running mean."""
        gradients = {}
        for name, value in components.items():
            (gradients[name],) = torch.autograd.grad(value, leaf, retain_graph=True)
            index = self._index[name]
            self.counts[index] += 1
            change = self._share.norm(gradients[name]) - self.norms[index]
            self.norms[index] += change / self.counts[index].clamp(max=WINDOW)
        return gradients

    def _weight(self, term: Term, name: str) -> float:
        """The factor of a component, with skipped steps made up for."""
        settings = term.settings
        if settings.weighting == "raw":
            return settings.every * term.raw_weights[name]
        pixel, own = float(self.norms[0]), float(self.norms[self._index[name]])
        return settings.every * settings.strength * pixel / own if own else 0.0

    def _ratio(self, term: Term, name: str) -> float:
        """Gradient norm of the weighted component against the pixel loss's, as running means."""
        pixel, own = float(self.norms[0]), float(self.norms[self._index[name]])
        return self._weight(term, name) / term.settings.every * own / pixel if pixel else 0.0


def _check(restored: Tensor, clean: Tensor) -> None:
    if restored.shape != clean.shape or restored.ndim != 4:
        raise LossError(
            f"expected restored and clean images (N,3,H,W) of one shape, got {tuple(restored.shape)} and "
            f"{tuple(clean.shape)}"
        )
    if not torch.isfinite(restored).all():
        raise LossError("restored: holds NaN or infinite values; training has diverged, lower its learning rate")
    check_range("clean", clean)
