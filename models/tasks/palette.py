"""Distinct colours for classes in pictures."""

import colorsys


def color(index: int) -> tuple[int, int, int]:
    """An RGB colour for a class index; neighbours differ strongly (golden-ratio steps of the hue)."""
    hue = (0.08 + index * 0.618034) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85 if index % 2 else 0.65, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
