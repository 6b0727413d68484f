"""The objective, what a restorer is trained on: the pixel loss plus further losses, each at a stated strength."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..data_parallel import SINGLE_RANK, Rank
from .term import Loss, LossError, Term, check_range

WINDOW = 20  # measurements in the running means of the gradient norms
WARM_UP = 5  # the first measurements are made at consecutive evaluations


class ObjectiveOutput(NamedTuple):
    """One evaluation of an objective."""

    total: Tensor  # scalar; its gradient is the weighted sum of all gradients
    logs: dict[str, float]  # value of each component; "<component>_ratio": its gradient norm over the pixel loss's


class Objective(nn.Module):
    """The pixel loss plus terms, as one scalar to call backward on.

    The gradient of each component is taken at the restored image, detached from the restorer. The weighted sum of the
    gradients then goes through the restorer once. With weighting "ratio" the factor of a component is
    strength * |pixel gradient| / |gradient of the component|, both norms being running means.
    The means and the step are buffers, so that a training that is resumed from `state_dict` continues bit for bit.
    The frozen networks of the terms follow `.to()`, but are neither parameters nor part of `state_dict`.

    `restored` is a restorer's raw output, which may leave [0,1]. The pixel loss sees it raw. The terms see it clamped;
    the gradient passes straight through the clamp.

    Args:
        pixel: the pixel loss.
        terms: the further losses by name.
        rank: this process of a data-parallel training; norms are those of whole batches.

    Raises:
        LossError: two losses have a component of the same name.
    """

    step: Tensor
    norms: Tensor
    counts: Tensor

    def __init__(self, pixel: Loss, terms: Mapping[str, Term], rank: Rank = SINGLE_RANK) -> None:
        super().__init__()
        names = ["pixel", *(name for term in terms.values() for name in term.raw_weights)]
        if len(set(names)) != len(names):
            raise LossError(f"objective {' + '.join(terms)}: a component occurs twice in {', '.join(names)}")
        self._rank = rank
        self._pixel = pixel
        self._terms = tuple(terms.values())  # a tuple, so that their networks are not registered
        self._index = {name: index for index, name in enumerate(names)}
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("norms", torch.zeros(len(names), dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(len(names), dtype=torch.int64))

    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> ObjectiveOutput:
        """Evaluate at restored and clean images (N,3,H,W), clean in [0,1]; only `generator` is used for draws.

        Without gradient (validation), all terms are evaluated; steps are not counted and norms not measured.

        Raises:
            LossError: shapes that differ, a clean image outside [0,1], or a restored one that is not finite.
        """
        restored = restored.float()
        _check(restored, clean)
        training = torch.is_grad_enabled() and restored.requires_grad
        leaf = restored.detach().requires_grad_(training)  # (N,3,H,W)
        components = self._pixel(leaf, clean, generator)  # {"pixel": scalar}
        pixel, weight = components["pixel"], self._pixel.raw_weights["pixel"]
        logs = {"pixel": pixel.item()}
        gradient = self._measured(leaf, components)["pixel"] if training else torch.zeros_like(leaf)  # (N,3,H,W)
        gradient, value = gradient * weight, pixel.detach() * weight
        clamped = leaf + (leaf.clamp(0, 1) - leaf).detach()  # (N,3,H,W)
        for term in self._terms:
            if training and not self._is_due(term):
                continue
            components = term(clamped, clean, generator)  # scalars by name
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
        """The weighted gradient of a term; the norms of its components are measured first if that is due."""
        if self._measurement_is_due(term):
            gradients = self._measured(leaf, components)
            return torch.stack([self._weight(term, name) * gradients[name] for name in gradients]).sum(0)
        weighted = torch.stack([self._weight(term, name) * value for name, value in components.items()])
        return torch.autograd.grad(weighted.sum(), leaf)[0]

    def _is_due(self, term: Term) -> bool:
        steps = int(self.step) - term.settings.from_step
        return steps >= 0 and steps % term.settings.every == 0

    def _measurement_is_due(self, term: Term) -> bool:
        evaluations = (int(self.step) - term.settings.from_step) // term.settings.every
        return evaluations < WARM_UP or evaluations % term.settings.calibrate_every == 0

    def _measured(self, leaf: Tensor, components: dict[str, Tensor]) -> dict[str, Tensor]:
        """The gradient of each component; its norm goes into the running mean."""
        gradients = {}
        for name, component in components.items():
            (gradients[name],) = torch.autograd.grad(component, leaf, retain_graph=True)
            index = self._index[name]
            self.counts[index] += 1
            change = self._rank.gradient_norm(gradients[name]) - self.norms[index]
            self.norms[index] += change / self.counts[index].clamp(max=WINDOW)
        return gradients

    def _norms(self, name: str) -> tuple[float, float]:
        """The running means of the gradient norms of the pixel loss and of a component."""
        return float(self.norms[0]), float(self.norms[self._index[name]])

    def _weight(self, term: Term, name: str) -> float:
        """The factor of a component; it makes up for skipped steps."""
        settings = term.settings
        if settings.weighting == "raw":
            return settings.every * term.raw_weights[name]
        pixel, component = self._norms(name)
        return settings.every * settings.strength * pixel / component if component else 0.0

    def _ratio(self, term: Term, name: str) -> float:
        """Gradient norm of the weighted component relative to the pixel loss's."""
        pixel, component = self._norms(name)
        return self._weight(term, name) / term.settings.every * component / pixel if pixel else 0.0


def _check(restored: Tensor, clean: Tensor) -> None:
    if restored.shape != clean.shape or restored.ndim != 4:
        raise LossError(
            f"expected restored and clean images (N,3,H,W) of one shape, got {tuple(restored.shape)} and "
            f"{tuple(clean.shape)}"
        )
    if not torch.isfinite(restored).all():
        raise LossError("restored: holds NaN or infinite values; training has diverged, lower its learning rate")
    check_range("clean", clean)
