"""The plan of a street: how wide its parts are, what stands on either side, where another street crosses."""

from dataclasses import dataclass

import numpy as np

FAR = 190.0  # metres; buildings and road end here at the latest
BEHIND = -30.0  # metres; where they start, behind the camera


@dataclass(frozen=True)
class Street:
    """Widths in metres; pairs are (left, right). `frontage` is "terrace", "detached" or "park"."""

    road: float  # half of the road's width
    pavement: tuple[float, float]
    verge: tuple[float, float]  # grass between the pavement and the buildings
    frontage: tuple[str, str]
    crossing: float | None  # middle of the crossing street, along this one
    crossing_half: float
    end: float  # where a building closes the street, or FAR

    def kerb(self, side: int) -> float:
        """How far the pavement's outer edge is from the middle, on side 0 (left) or 1."""
        return self.road + self.pavement[side]

    def wall(self, side: int) -> float:
        """How far the buildings are from the middle."""
        return self.kerb(side) + self.verge[side]

    def crossed(self, z: float, margin: float = 1.0) -> bool:
        """Whether the crossing street, and a margin beside it, covers a position along this street."""
        return self.crossing is not None and abs(z - self.crossing) < self.crossing_half + margin


def sign_of(side: int) -> int:
    """-1 for the left side (0), +1 for the right side (1)."""
    return 2 * side - 1


def draw_street(rng: np.random.Generator) -> Street:
    """Draw a street; a third of them is closed by a building, half of them are crossed."""
    frontage = rng.choice(["terrace", "detached", "park"], size=2, p=[0.55, 0.27, 0.18])
    verge = [0.0 if kind == "terrace" else float(rng.uniform(1.0, 6.0)) for kind in frontage]
    closed = rng.random() < 0.35
    return Street(
        road=float(rng.uniform(3.2, 6.5)),
        pavement=(float(rng.uniform(1.8, 4.5)), float(rng.uniform(1.8, 4.5))),
        verge=(verge[0], verge[1]),
        frontage=(str(frontage[0]), str(frontage[1])),
        crossing=float(rng.uniform(14, 60)) if rng.random() < 0.5 else None,
        crossing_half=float(rng.uniform(3.0, 5.0)),
        end=float(rng.uniform(55, 130)) if closed else FAR,
    )
