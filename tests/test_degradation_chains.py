"""Chains from params.yaml, and the presets under their published names."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from skimage import data as photos

from data.degradations import (
    EFFECTS,
    ONLY_IN_CHAINS,
    RECIPES,
    DegradationError,
    build_chain,
    degrade,
    degrade_with_parameters,
    effect_names,
    get_effect,
    get_recipe,
)
from data.degradations.records import apply_parameters

ROOT = Path(__file__).parents[1]
IMAGE = photos.astronaut()[:90, :120].copy()
# As imagecorruptions.get_corruption_names("all") lists them.
PUBLISHED = [
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
]


def test_a_chain_is_its_steps_one_after_another() -> None:
    chain = build_chain([{"effect": "lowres", "factor": 3}, {"effect": "jpeg", "quality": 40}], "small")
    first = degrade(IMAGE, build_chain([{"effect": "lowres", "factor": 3}]), 2, 0)
    assert (degrade(IMAGE, chain, 2, 0) == degrade(first, build_chain([{"effect": "jpeg", "quality": 40}]), 2, 0)).all()
    assert degrade_with_parameters(IMAGE, chain, 2, 0).parameters == {
        "1-lowres.factor": 3.0,
        "1-lowres.down": "bicubic",
        "1-lowres.up": "bicubic",
        "2-jpeg.quality": 40,
    }


def test_the_same_effect_twice_draws_twice() -> None:
    chain = build_chain([{"effect": "noise", "sigma_levels": [1, 9]}, {"effect": "noise", "sigma_levels": [1, 9]}])
    drawn = degrade_with_parameters(IMAGE, chain, 1, 4).parameters
    assert drawn["1-noise.sigma_levels"] != drawn["2-noise.sigma_levels"]


def test_a_range_is_drawn_for_each_image_and_kept_in_the_record() -> None:
    recipe = build_chain([{"effect": "jpeg", "quality": [20, 60]}])
    drawn = [degrade_with_parameters(IMAGE, recipe, 3, seed).parameters["quality"] for seed in range(40)]
    assert len(set(drawn)) > 10 and min(drawn) >= 20 and max(drawn) <= 60
    assert all(isinstance(quality, int) for quality in drawn)


def test_five_values_are_five_severities_and_words_are_choices() -> None:
    recipe = build_chain([{"effect": "lowres", "factor": [2, 3, [4, 5], 6, 8], "up": ["nearest", "bicubic"]}])
    records = [degrade_with_parameters(IMAGE, recipe, severity, 1).parameters for severity in range(1, 6)]
    assert [record["factor"] for record in records[:2]] == [2, 3] and 4 <= records[2]["factor"] <= 5
    ups = {degrade_with_parameters(IMAGE, recipe, 1, seed).parameters["up"] for seed in range(20)}
    assert ups == {"nearest", "bicubic"}


def test_what_a_step_leaves_out_follows_the_table() -> None:
    recipe = build_chain([{"effect": "fog", "airlight": 0.7}])
    record = degrade_with_parameters(IMAGE, recipe, 4, 0).parameters
    assert record["visibility_metres"] == get_effect("fog").severities["visibility_metres"][3]
    assert record["airlight"] == 0.7


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "night-drive: expected a list of steps"),
        ("fog", "night-drive: expected a list of steps"),
        ([{"quality": 3}], "night-drive, step 1: expected a mapping with the key `effect`"),
        (
            [{"effect": "fog"}, {"effect": "smog"}],
            "step 2: there is no effect 'smog'. Choose from lowlight, night",
        ),
        ([{"effect": ["fog"]}], r"night-drive, step 1: there is no effect \['fog'\]"),
        ([{"effect": "jpeg", "qualty": 3}], r"step 1 \(jpeg\): there is no setting 'qualty'. Choose from quality"),
        ([{"effect": "jpeg", "quality": "good"}], r"step 1 \(jpeg\), quality: expected a whole number from 1 to 100"),
        ([{"effect": "jpeg", "quality": 50.5}], "quality: expected a whole number"),
        ([{"effect": "jpeg", "quality": True}], "quality: expected a whole number"),
        ([{"effect": "jpeg", "quality": None}], "quality: expected a whole number"),
        ([{"effect": "jpeg", "quality": float("nan")}], "quality: expected a whole number"),
        ([{"effect": "noise", "sigma_levels": float("nan")}], "sigma_levels: expected a number"),
        ([{"effect": "jpeg", "quality": [60, 20]}], r"range \[low, high\]"),
        ([{"effect": "jpeg", "quality": [1, 2, 3]}], r"1 value, 2 \(a range\) or 5 \(severities\)"),
        ([{"effect": "lowres", "up": "cubic"}], "up: expected one of nearest, box, bilinear, bicubic, lanczos"),
        ([{"effect": "blur-motion", "path": 3}], "path: expected a list"),
        ([{"effect": "shrink"}], "the chain does not restore the size after shrink. Add the effect `enlarge`"),
        ([{"effect": "shrink"}, {"effect": "fog"}, {"effect": "enlarge"}], "fog uses the depth map"),
        ([{"effect": "shear"}, {"effect": "rain"}], "rain uses the depth map, which does not fit after shear"),
    ],
)
def test_a_mistake_names_the_chain_the_step_and_the_key(steps: object, message: str) -> None:
    with pytest.raises(DegradationError, match=message):
        build_chain(steps, "night-drive")  # type: ignore[arg-type]


def test_every_effect_has_a_row_for_each_setting_and_no_other() -> None:
    for name in EFFECTS:
        effect = get_effect(name)
        assert list(effect.severities) == list(effect.settings), name
        assert effect.source


def test_a_setting_has_five_severities_or_one_value() -> None:
    for name in EFFECTS:
        values = get_effect(name).severities.values()
        assert all(len(value) == 5 for value in values if isinstance(value, tuple)), name


def test_effects_that_change_the_size_are_no_recipes_alone() -> None:
    assert {name for name in EFFECTS if get_effect(name).changes_size} == set(ONLY_IN_CHAINS)
    assert not set(ONLY_IN_CHAINS) & set(RECIPES)


def test_the_effects_of_a_recipe_are_known_by_name() -> None:
    for name in RECIPES:
        assert effect_names(name) == tuple(dict.fromkeys(step.name for step in get_recipe(name).steps))
    own = {"night-drive": [{"effect": "night"}, {"effect": "noise"}, {"effect": "night"}]}
    assert effect_names("night-drive", own) == ("night", "noise")
    assert effect_names("coco-c-gaussian-noise-2", own) == ("coco-c-gaussian_noise",)
    with pytest.raises(DegradationError, match=r"there is no recipe 'smog'\. Choose from blur, "):
        effect_names("smog", own)
    with pytest.raises(DegradationError, match="murk, step 1: there is no effect 'smog'"):
        effect_names("murk", {"murk": [{"effect": "smog"}]})


def test_names_and_effects_are_looked_up_without_importing_any() -> None:
    code = (
        "import sys\n"
        "from data.degradations import degrade, effect_names\n"
        "assert effect_names('fog') == ('fog',)\n"
        "heavy = {'numpy', 'cv2', 'torch', 'data.degradations.effects', 'data.degradations.fog'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_published_name_exists() -> None:
    assert {name for name in EFFECTS if name.startswith("coco-c-")} == {f"coco-c-{name}" for name in PUBLISHED}
    for name in PUBLISHED:
        rows = get_recipe(f"coco-c-{name}").steps[0].rows
        for severity in range(1, 6):
            fixed = get_recipe(f"coco-c-{name}-{severity}")
            assert fixed.fixed and fixed.steps[0].rows == (rows[severity - 1],) * 5
    assert all(f"ia-yolo-fog-{index}" in RECIPES for index in range(10))


@pytest.mark.parametrize("name", ["ia-yolo-fog-4", "edtr-mix-a", "edtr-mix-b", "coco-c-contrast-2"])
def test_a_published_setting_is_the_same_at_every_severity(name: str) -> None:
    first, *others = [degrade(IMAGE, name, severity, 6) for severity in range(1, 6)]
    assert all((first == other).all() for other in others)


def test_mix_a_is_eight_times_smaller_and_jpeg_75() -> None:
    record = degrade_with_parameters(IMAGE, "edtr-mix-a", 3, 0).parameters
    assert record["1-shrink.factor"] == 8 and record["2-jpeg.quality"] == 75
    assert (record["3-enlarge.height"], record["3-enlarge.width"]) == IMAGE.shape[:2]


def test_mix_b_draws_in_the_published_ranges() -> None:
    ranges = {
        "1-blur-gaussian.sigma_pixels": (0.1, 8),
        "2-shrink.factor": (1, 16),
        "3-noise.sigma_levels": (0, 10),
        "4-jpeg.quality": (50, 100),
    }
    records = [degrade_with_parameters(IMAGE, "edtr-mix-b", 3, seed).parameters for seed in range(60)]
    for key, (low, high) in ranges.items():
        drawn = [record[key] for record in records]
        assert low <= min(drawn) < low + 0.2 * (high - low) and high - 0.2 * (high - low) < max(drawn) <= high
    assert all(record["1-blur-gaussian.kernel_pixels"] == 41 for record in records)


def test_a_chain_is_made_again_from_its_record() -> None:
    chain = build_chain(
        [
            {"effect": "fog"},
            {"effect": "blur-motion"},
            {"effect": "lowlight", "exposure_stops": [1, 2]},
            {"effect": "jpeg"},
        ]
    )
    done = degrade_with_parameters(IMAGE, chain, 3, 9)
    assert (apply_parameters(IMAGE, chain, done.parameters, 9) == done.image).all()
    assert (apply_parameters(IMAGE, chain, done.parameters, 10) != done.image).any()


def test_a_chain_travels_to_workers() -> None:
    chain = build_chain([{"effect": "blur-motion"}, {"effect": "night"}])
    arrived = pickle.loads(pickle.dumps(chain))
    assert (degrade(IMAGE, arrived, 2, 3) == degrade(IMAGE, chain, 2, 3)).all()


def test_setting_names_carry_no_spaces_so_that_they_can_be_columns() -> None:
    assert all(re.fullmatch(r"[a-z_]+", key) for name in EFFECTS for key in get_effect(name).record)
