"""The published settings of the 19 COCO-C corruptions, by severity.

From the table in imagecorruptions 1.1.2 (Michaelis et al. 2019, after Hendrycks and Dietterich 2019), whose
order of severities is kept also where it is not monotone (`saturate`, `glass_blur`). The form of the table is
that of `severities.py`; lengths are in pixels, levels and noise on a scale where white is 1.
"""

from typing import Any

COCO_C_TABLE: dict[str, dict[str, Any]] = {
    "gaussian_noise": {"sigma": (0.08, 0.12, 0.18, 0.26, 0.38)},
    "shot_noise": {"photons_at_white": (60.0, 25.0, 12.0, 5.0, 3.0)},
    "impulse_noise": {"share": (0.03, 0.06, 0.09, 0.17, 0.27)},
    "speckle_noise": {"sigma": (0.15, 0.2, 0.35, 0.45, 0.6)},
    "gaussian_blur": {"sigma_pixels": (1.0, 2.0, 3.0, 4.0, 6.0)},
    "glass_blur": {
        "sigma_pixels": (0.7, 0.9, 1.0, 1.1, 1.5),
        "reach_pixels": (1, 2, 2, 3, 4),
        "rounds": (2, 1, 3, 2, 2),
    },
    "defocus_blur": {"radius_pixels": (3, 4, 6, 8, 10), "edge_sigma_pixels": (0.1, 0.5, 0.5, 0.5, 0.5)},
    "motion_blur": {
        "reach_pixels": (10, 15, 15, 15, 20),
        "sigma_pixels": (3.0, 5.0, 8.0, 12.0, 15.0),
        "angle_degrees": [-45.0, 45.0],
    },
    "zoom_blur": {"largest_zoom": (1.11, 1.15, 1.2, 1.24, 1.3), "step": (0.01, 0.01, 0.02, 0.02, 0.03)},
    "snow": {
        "mean": (0.1, 0.2, 0.55, 0.55, 0.55),
        "sigma": 0.3,
        "zoom": (3.0, 2.0, 4.0, 4.5, 2.5),
        "threshold": (0.5, 0.5, 0.9, 0.85, 0.85),
        "reach_pixels": (10, 12, 12, 12, 12),
        "sigma_pixels": (4.0, 4.0, 8.0, 8.0, 12.0),
        "keep": (0.8, 0.7, 0.7, 0.65, 0.55),
        "angle_degrees": [-135.0, -45.0],
    },
    "frost": {
        "keep": (1.0, 0.8, 0.7, 0.65, 0.6),
        "strength": (0.4, 0.6, 0.7, 0.7, 0.75),
        "texture": "drawn",
        "picture": [1, 5],
        "top": [0.0, 1.0],
        "left": [0.0, 1.0],
    },
    "fog": {"thickness": (1.5, 2.0, 2.5, 2.5, 3.0), "decay": (2.0, 2.0, 1.7, 1.5, 1.4)},
    "spatter": {
        "liquid": ("water", "water", "water", "mud", "mud"),
        "mean": (0.65, 0.65, 0.65, 0.65, 0.67),
        "sigma": (0.3, 0.3, 0.3, 0.3, 0.4),
        "sigma_pixels": (4.0, 3.0, 2.0, 1.0, 1.0),
        "threshold": (0.69, 0.68, 0.68, 0.65, 0.65),
        "strength": (0.6, 0.6, 0.5, 1.5, 1.5),
    },
    "brightness": {"shift": (0.1, 0.2, 0.3, 0.4, 0.5)},
    "contrast": {"factor": (0.4, 0.3, 0.2, 0.1, 0.05)},
    "saturate": {"factor": (0.3, 0.1, 2.0, 5.0, 20.0), "shift": (0.0, 0.0, 0.0, 0.1, 0.2)},
    "jpeg_compression": {"quality": (25, 18, 15, 10, 7)},
    "pixelate": {"share": (0.6, 0.5, 0.4, 0.3, 0.25)},
    "elastic_transform": {"strength": (12.5, 16.25, 21.25, 25.0, 30.0)},
}
