"""Dividing groups of images among splits at random, so that the sizes come near the asked ones."""

import numpy as np
from numpy.typing import NDArray

DRAWS = 50  # random divisions that are tried; the nearest is kept


def draw_groups(sizes: NDArray[np.intp], targets: NDArray[np.float64], seed: int) -> NDArray[np.intp]:
    """The split of each group, (G,), 0 to S - 1. No split is empty, and no split is off by more than a group's size.

    Args:
        sizes: number of images of each group, (G,), with G >= S.
        targets: number of images that each split should have, (S,).
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    best, smallest = np.zeros(len(sizes), dtype=np.intp), np.inf
    for _ in range(DRAWS):
        places = _draw(sizes, targets, rng)
        error = float(np.abs(_missing(places, sizes, targets)).sum())
        if error < smallest:
            best, smallest = places, error
        if smallest < len(targets) / 2:  # no split is off by more than the rounding
            break
    return best


def _draw(sizes: NDArray[np.intp], targets: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Large groups first, each into a random split that has room for it."""
    missing = targets.copy()
    places = np.zeros(len(sizes), dtype=np.intp)
    order = rng.permutation(len(sizes))
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        room = np.where(missing > sizes[group] - 0.5, missing, 0.0).cumsum()
        if room[-1] > 0:
            places[group] = np.searchsorted(room, rng.random() * room[-1], side="right")
        else:
            places[group] = missing.argmax()
        missing[places[group]] -= sizes[group]
    for split in range(len(targets)):
        if not (places == split).any():
            places[_best_to_move(split, places, sizes, targets)] = split
    return places


def _best_to_move(
    split: int, places: NDArray[np.intp], sizes: NDArray[np.intp], targets: NDArray[np.float64]
) -> np.intp:
    """The group that an empty split takes from a split of two or more, so that the sizes stay near the targets."""
    missing = _missing(places, sizes, targets)
    source = missing[places]
    change = np.abs(source + sizes) - np.abs(source) + np.abs(missing[split] - sizes)
    is_last = np.bincount(places, minlength=len(targets))[places] < 2
    return np.argmin(np.where(is_last, np.inf, change))


def _missing(places: NDArray[np.intp], sizes: NDArray[np.intp], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(targets - np.bincount(places, sizes, len(targets)))
