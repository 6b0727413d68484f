"""A rank of a data-parallel training: its slice of every batch, and sums over all ranks."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Rank:
    """One rank's equal slice of every batch, in the order of the ranks. By itself it is the only rank.

    Attributes:
        index: number of the rank, from 0.
        count: number of ranks.
    """

    index = 0
    count = 1

    def sum_over_ranks(self, tensor: "Tensor") -> "Tensor":
        """The sum of a tensor that every rank has in the same shape."""
        return tensor

    def slice_of(self, draw: "Callable[[int], Tensor]", size: int) -> "Tensor":
        """This rank's slice of numbers drawn for the whole batch, so that they do not depend on the number of ranks.

        Args:
            draw: gives (n, ...) random numbers for n images; called with the size of the whole batch.
            size: images in this rank's slice.
        """
        drawn = draw(size * self.count)
        return drawn[self.index * size : (self.index + 1) * size]

    def mean(self, tensor: "Tensor") -> "Tensor":
        """The mean over the whole batch of something whose mean over this rank's slice is `tensor`."""
        return tensor if self.count == 1 else self.sum_over_ranks(tensor) / self.count

    def gradient_norm(self, tensor: "Tensor") -> "Tensor":
        """The norm (float64 scalar) of the gradient of the batch's mean loss, from that of this slice's mean loss."""
        gradient = tensor.double()
        if self.count == 1:
            return gradient.norm()
        return self.sum_over_ranks(gradient.square().sum()).sqrt() / self.count


SINGLE_RANK = Rank()
