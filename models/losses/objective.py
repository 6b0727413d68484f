"""The objective, what a restorer is trained on: the pixel loss plus further losses, each at a stated strength."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..data_parallel import SINGLE_RANK, Rank
from . import LossError
from .term import Labels, Loss, Term, check_range

MEMORY = 5  # measurements in which a running mean of gradient norms follows a change to 1 - (1 - 1/5)^5 = 67 %
WARM_UP = 5  # the first measurements are made at consecutive evaluations


class ObjectiveOutput(NamedTuple):
    """One evaluation of an objective."""

    total: Tensor  # scalar; its gradient is the weighted sum of all gradients
    logs: dict[str, float]  # value of each component; "<component>_ratio" at the steps that measure it


class Objective(nn.Module):
    """The pixel loss plus terms, as one scalar to call backward on.

    The gradient of each component is taken at the restored image, detached from the restorer. The weighted sum of the
    gradients then goes through the restorer once. With weighting "ratio" the factor of a component is
    strength * |pixel gradient| / |gradient of the component|. Both norms are running means over the same steps, those
    that measure the component, and follow a change within `MEMORY` measurements. Each measurement logs the realised
    ratio: the norm of the weighted component's gradient, divided by that of the weighted pixel loss, at that step.
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
    norms: Tensor  # (components,) running means of gradient norms
    pixel_norms: Tensor  # (components,) the pixel loss's, over the steps that measured the component
    counts: Tensor  # (components,) measurements

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
        self.register_buffer("pixel_norms", torch.zeros(len(names), dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(len(names), dtype=torch.int64))

    def forward(
        self, restored: Tensor, clean: Tensor, generator: torch.Generator, labels: Labels | None = None
    ) -> ObjectiveOutput:
        """Evaluate at restored and clean images (N,3,H,W), clean in [0,1]; only `generator` is used for draws.

        `labels` are those of the images, for the losses with `needs_labels`. Without gradient (validation), all terms
        are evaluated; steps are not counted and norms not measured.

        Raises:
            LossError: shapes that differ, a clean image outside [0,1], or a restored one that is not finite.
        """
        restored = restored.float()
        _check(restored, clean)
        training = torch.is_grad_enabled() and restored.requires_grad
        leaf = restored.detach().requires_grad_(training)  # (N,3,H,W)
        pixel, pixel_weight = self._pixel(leaf, clean, generator)["pixel"], self._pixel.raw_weights["pixel"]
        pixel_gradient = torch.autograd.grad(pixel, leaf)[0] if training else torch.zeros_like(leaf)  # (N,3,H,W)
        gradient, value = pixel_gradient * pixel_weight, pixel.detach() * pixel_weight
        logs = {"pixel": pixel.item()}
        clamped = leaf + (leaf.clamp(0, 1) - leaf).detach()  # (N,3,H,W)
        for term in self._terms:
            if training and not self._is_due(term):
                continue
            components = term(clamped, clean, generator, *([labels] if term.needs_labels else []))  # scalars by name
            if training and self._measurement_is_due(term):
                gradients = self._gradients(leaf, components)  # (N,3,H,W) by name
                logs |= self._measure(term, pixel_gradient, gradients)
                gradient = gradient + sum(self._weight(term, name) * gradients[name] for name in gradients)
            elif training:
                weighted = torch.stack([self._weight(term, name) * value for name, value in components.items()])
                gradient = gradient + torch.autograd.grad(weighted.sum(), leaf)[0]
            for name, component in components.items():
                value = value + self._weight(term, name) * component.detach()
                logs[name] = component.item()
        if training:
            self.step += 1
            value = value + ((restored - restored.detach()) * gradient).sum()
        return ObjectiveOutput(value, logs)

    @property
    def needs_labels(self) -> bool:
        """Whether `forward` needs the labels of the images."""
        return any(term.needs_labels for term in self._terms)

    @property
    def cycle(self) -> int:
        """Steps after which the same work repeats, from step `settled` on."""
        return math.lcm(*(term.settings.every * term.settings.calibrate_every for term in self._terms))

    @property
    def settled(self) -> int:
        """The step at which all terms have started and made their first measurements."""
        return max((term.settings.from_step + WARM_UP * term.settings.every for term in self._terms), default=0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Objective":
        for term in self._terms:
            term._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _is_due(self, term: Term) -> bool:
        steps = int(self.step) - term.settings.from_step
        return steps >= 0 and steps % term.settings.every == 0

    def _measurement_is_due(self, term: Term) -> bool:
        evaluations = (int(self.step) - term.settings.from_step) // term.settings.every
        return evaluations < WARM_UP or evaluations % term.settings.calibrate_every == 0

    def _gradients(self, leaf: Tensor, components: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradient (N,3,H,W) of each component at the restored images."""
        return {
            name: torch.autograd.grad(component, leaf, retain_graph=True)[0] for name, component in components.items()
        }

    def _measure(self, term: Term, pixel_gradient: Tensor, gradients: Mapping[str, Tensor]) -> dict[str, float]:
        """Update the running means of the norms; returns the realised ratio of each component."""
        pixel_norm, ratios = self._rank.gradient_norm(pixel_gradient), {}
        for name, gradient in gradients.items():
            index, norm = self._index[name], self._rank.gradient_norm(gradient)
            self.counts[index] += 1
            share = 1 / self.counts[index].clamp(max=MEMORY)
            self.norms[index] += share * (norm - self.norms[index])
            self.pixel_norms[index] += share * (pixel_norm - self.pixel_norms[index])
            weighted = self._weight(term, name) / term.settings.every * float(norm)
            ratios[f"{name}_ratio"] = weighted / float(pixel_norm) if pixel_norm else 0.0
        return ratios

    def _weight(self, term: Term, name: str) -> float:
        """The factor of a component; it makes up for skipped steps."""
        settings = term.settings
        if settings.weighting == "raw":
            return settings.every * term.raw_weights[name]
        pixel, component = float(self.pixel_norms[self._index[name]]), float(self.norms[self._index[name]])
        return settings.every * settings.strength * pixel / component if component else 0.0


def _check(restored: Tensor, clean: Tensor) -> None:
    if restored.shape != clean.shape or restored.ndim != 4:
        raise LossError(
            f"expected restored and clean images (N,3,H,W) of one shape, got {tuple(restored.shape)} and "
            f"{tuple(clean.shape)}"
        )
    if not torch.isfinite(restored).all():
        raise LossError("restored: holds NaN or infinite values; training has diverged, lower its learning rate")
    check_range("clean", clean)
