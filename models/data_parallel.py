"""Which share of a batch a process has, where several share one training: equal parts, in their order."""

from collections.abc import Callable

from torch import Tensor


class BatchShare:
    """One process's part of every batch, and sums over all parts. By itself it is the whole batch.

    Attributes:
        index: number of the part, from 0.
        count: number of parts; all are equally large.
    """

    index = 0
    count = 1

    def add_up(self, value: Tensor) -> Tensor:
        """The sum over all processes of a tensor that each has in the same shape."""
        return value

    def of(self, draw: Callable[[int], Tensor], size: int) -> Tensor:
        """This part of what is drawn for a whole batch, so that no number depends on how many processes there are.

        Args:
            draw: gives (n, ...) random numbers for n images; called with the size of the whole batch.
            size: of this part.
        """
        drawn = draw(size * self.count)
        return drawn[self.index * size : (self.index + 1) * size]

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the batch of something whose mean over this part is `value`."""
        return value if self.count == 1 else self.add_up(value) / self.count

    def norm(self, gradient: Tensor) -> Tensor:
        """The norm (float64 scalar) of the gradient of a batch's mean loss, from that of this part's mean loss."""
        own = gradient.double()
        if self.count == 1:
            return own.norm()
        return self.add_up(own.square().sum()).sqrt() / self.count


WHOLE = BatchShare()
