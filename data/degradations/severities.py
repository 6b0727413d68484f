"""What severity 1 to 5 means: one table for every effect of our own.

A tuple of five holds one value for each severity; anything else holds for all of them. A list [low, high] is
drawn anew, uniformly, for each image (a list of words: one of them). Units are part of the names.
Published presets have tables of their own: `presets.py` and `coco_c_settings.py`.
"""

from typing import Any

SEVERITY_TABLE: dict[str, dict[str, Any]] = {
    "lowlight": {
        "exposure_stops": (1.5, 2.5, 3.5, 4.5, 5.5),
        "full_well_electrons": (8000.0, 4500.0, 2500.0, 1600.0, 1000.0),
        "read_noise_electrons": (1.5, 2.0, 2.5, 3.0, 3.5),
        "cast_red": [0.9, 1.1],
        "cast_blue": [0.8, 1.1],
        "raw_bits": 12,
    },
    "night": {
        "exposure_stops": (2.0, 3.0, 4.0, 5.0, 6.0),
        "full_well_electrons": (8000.0, 4500.0, 2500.0, 1600.0, 1000.0),
        "read_noise_electrons": (1.5, 2.0, 2.5, 3.0, 3.5),
        "cast_red": [1.0, 1.3],
        "cast_blue": [0.7, 1.2],
        "raw_bits": 12,
        "lamp_threshold": 0.6,
        "lamp_contrast": 1.4,
        "lamp_largest_share": 0.004,
        "glow_share": 0.015,
        "glow_gain": 0.5,
    },
    "fog": {
        "visibility_metres": (250.0, 110.0, 55.0, 40.0, 30.0),
        "airlight": [0.8, 0.9],
        "light": "linear",
    },
    "rain": {
        "rate_millimetres_per_hour": (5.0, 12.0, 28.0, 55.0, 100.0),
        "exposure_milliseconds": [8.0, 14.0],
        "angle_degrees": [-20.0, 20.0],
        "opacity": (0.2, 0.25, 0.3, 0.35, 0.4),
        "brightness": [0.75, 0.85],
        "visibility_metres": (2000.0, 900.0, 450.0, 250.0, 140.0),
    },
    "snow": {
        "flakes_per_cubic_metre": (10.0, 25.0, 50.0, 90.0, 150.0),
        "flake_millimetres": (5.0, 6.0, 7.0, 8.0, 9.0),
        "exposure_milliseconds": [5.0, 12.0],
        "angle_degrees": [-50.0, 50.0],
        "opacity": 0.9,
        "brightness": [0.85, 0.95],
        "visibility_metres": (1000.0, 500.0, 250.0, 150.0, 90.0),
    },
    "noise": {"sigma_levels": (8.0, 16.0, 28.0, 42.0, 60.0)},
    "noise-poisson": {"photons_at_white": (500.0, 150.0, 60.0, 25.0, 10.0)},
    "noise-iso": {
        "iso": (800.0, 2500.0, 8000.0, 20000.0, 51200.0),
        "full_well_electrons": 6000.0,
        "read_noise_electrons": 2.0,
    },
    "blur": {"radius_pixels": (1.0, 2.0, 3.5, 5.5, 8.0)},
    "blur-motion": {"length_pixels": (5.0, 9.0, 15.0, 22.0, 32.0), "bend": [0.0, 0.6], "path": []},
    "blur-gaussian": {
        "sigma_pixels": (0.8, 1.5, 2.5, 4.0, 6.0),
        "ratio": [0.5, 1.0],
        "angle_degrees": [0.0, 180.0],
        "kernel_pixels": 0,
        "light": "linear",
    },
    "jpeg": {"quality": (50, 25, 15, 9, 5)},
    "lowres": {"factor": (1.5, 2.5, 4.0, 6.0, 8.0), "down": "bicubic", "up": "bicubic"},
    "shear": {"shear_degrees": (2.0, 4.0, 7.0, 11.0, 16.0)},
    # Parts of published chains; they have no severity of their own.
    "shrink": {"factor": 2.0, "down": "bicubic"},
    "enlarge": {"up": "bicubic"},
    "ia-yolo-fog": {"beta": (0.05, 0.07, 0.09, 0.11, 0.14), "airlight": 0.5},
}


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
