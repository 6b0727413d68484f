from pathlib import Path

import pytest
from ruamel.yaml import YAML

from data.sources import SOURCES
from pipeline.plan import check_names, check_numbers, needs
from pipeline.settings.data import Unpaired
from pipeline.settings.params import Params, ParamsError, load_params
from pipeline.settings.training import TrainPrior, TrainRestorer
from pipeline.tracking.configurations import row_configuration

ROOT = Path(__file__).parents[1]
NAMES = ("", "tiny.", "photos.", "camvid.", "coco.", "dawn.")
FILES = [f"params.{name}yaml" for name in NAMES]


@pytest.mark.parametrize("name", FILES)
def test_shipped_files_are_valid(name: str) -> None:
    params = load_params(ROOT / name)
    if any(
        not Path(photos.data.root).is_dir() for photos in params.degrade.real.values() if isinstance(photos, Unpaired)
    ):
        pytest.skip(f"the real photos of {name} are not here")
    check_names(params)
    check_numbers(params)
    assert needs(params) == {"prior": name != "params.dawn.yaml"}


def _leaves(node: object, prefix: str = "") -> set[str]:
    if not isinstance(node, dict):
        return {prefix}
    return {leaf for key, value in node.items() for leaf in _leaves(value, f"{prefix}.{key}".lstrip("."))}


def test_tiny_has_the_same_keys_as_the_default() -> None:
    yaml = YAML(typ="safe")
    default, tiny = (_leaves(yaml.load(ROOT / name)) for name in FILES[:2])
    assert tiny == default


FAULTS = [
    ("seed: 0", "sede: 0", "sede: unknown key. Known keys: seed, data"),
    ("seed: 0", "seed: -1", "seed: Input should be greater than or equal to 0, got -1"),
    ("seed: 0", "seed: zero", "seed: Input should be a valid integer"),
    ("seed: 0", "seed: [", "not valid YAML"),
    ("  severity: 3", "  severity: 9", "degrade.severity: expected 1 to 5, a list such as"),
    ("  severity: 3", "  severity: [3, 3]", "degrade.severity"),
    ("  severity: 3", "  severity: {random: 3}", "{random: [1, 3, 5]}, got {'random': 3}"),
    ("recipes: {}", "recipes: {Fog: [{effect: fog}]}", "degrade.recipes"),
    ("recipes: {}", "recipes: {fog: [{effect: rain}]}", "degrade.recipes.fog: there is a recipe of this name"),
    ("real: {}", "real: {rain-cam: {kind: paird}}", "degrade.real.rain-cam"),
    ("[lowlight, fog]", "[lowlight, fogg]", "degradations: there is no recipe 'fogg'. Choose from"),
    ("[lowlight, fog]", "[fog, fog]", "degradations: 'fog' occurs twice"),
    ("[lowlight, fog]", "[]", "degradations: List should have at least 1 item"),
    ("[pixel, diffloss]", "[pixel, difloss]", "objectives: objective 'difloss'"),
    ("[detection, segmentation]", "[detektion]", "tasks: 'detektion' is unknown. Choose one of detection, instance-s"),
    ("strength: 2.0", "strengh: 2.0", "losses.diffloss.strengh: unknown key. Known keys: weighting, strength"),
    ("timesteps: [5, 300]", "timesteps: 5", "losses.diffloss.timesteps: Input should be a valid array, got 5"),
    ("image_size: 224", "image_size: 220", "train_task.detection.image_size: Input should be a multiple of 32"),
    ("source: scenes", "source: masks", "which needs a section data.masks. Add it."),
    (
        "source: scenes",
        "source: photos",
        f"data.source: 'photos' is unknown. Choose one of {', '.join(SOURCES)}",
    ),
    ("decoder_blocks: [1, 1, 1]", "decoder_blocks: [1, 1]", "must have the same length"),
    (
        "steps_of: {}",
        "steps_of: {pixl: 9}",
        "train_restorer.steps_of: objective 'pixl': 'pixl' is unknown. Choose one of pixel",
    ),
    (
        "steps_of: {}",
        "steps_of: {pixel: 0}",
        "train_restorer.steps_of.pixel: Input should be greater than or equal to 1",
    ),
    ("steps_of: {}", "steps_of: {frozen: 9}", "train_restorer.steps_of.frozen: 'frozen' is not trained. Remove it"),
    ("clean_share: 0.2", "clean_share: 1.0", "train_restorer.clean_share: Input should be less than 1"),
    ("timesteps: [5, 300]", "timesteps: [5, 300], from_step: 760", "losses.diffloss.from_step: expected less than 760"),
    ("timesteps: [5, 300]", "timesteps: [5, 3000]", "losses.diffloss.timesteps: expected 0 <= low < high <= 1000"),
    ("size: 64, channels", "size: 62, channels", "train_prior.network: size 62 cannot be halved 2 times"),
    ("attention: [16]", "attention: [12]", "train_prior.network: attention at size 12: the levels have the sizes"),
    ("engine: local", "engine: spark", "engine: Input should be 'local' or 'ray', got 'spark'"),
    ("processes: 1", "processes: 5", "train_prior.batch: 4 cannot be divided among 5 processes"),
    ("image_size: 224", "device: 'gpu', image_size: 224", "train_task.detection.device: String should match pattern"),
    (
        "baselines: []",
        "baselines: [task]",
        "statistics.baselines: 'task' is unknown, or a pixel loss, which is always a baseline. Choose from "
        "these objectives: diffloss",
    ),
    ("baselines: []", "baselines: [pixel]", "statistics.baselines: 'pixel' is unknown, or a pixel loss"),
    (
        "baselines: []",
        "rivals: [diffloss]",
        "params.yaml: statistics.rivals: this key is now called statistics.baselines. Rename it",
    ),
    ("resamples: 1000", "resamples: 5", "statistics.resamples: Input should be greater than or equal to 100"),
]


def test_a_degradation_with_a_severity_of_its_own() -> None:
    params = load_params(ROOT / "params.yaml")
    degrade = params.degrade.model_copy(update={"severity_of": {"fog": 2}})
    check_names(params.model_copy(update={"degrade": degrade}))
    assert degrade.of("fog").severity == 2 and degrade.of("lowlight").severity == 3
    assert degrade.only("fog") == {"severity": 2} and degrade.only("lowlight") == {"severity": 3}
    wrong = params.degrade.model_copy(update={"severity_of": {"fgo": 2}})
    with pytest.raises(ParamsError, match=r"degrade\.severity_of: there is no recipe 'fgo'. Choose from .*fog"):
        check_names(params.model_copy(update={"degrade": wrong}))


def test_each_retrained_network_has_a_restorer_of_its_own() -> None:
    params = load_params(ROOT / "params.tiny.yaml").model_dump()
    params["retraining"]["repeats"] = 3
    Params(**params)  # without arms the key has no meaning
    for name in ("degraded-retrained", "pixel-joint"):
        with pytest.raises(
            ValueError, match=r"retraining\.repeats: expected 1 \(train_restorer\.repeats\), got 3\. Ch"
        ):
            Params(**params | {"arms": [name]})
    params["train_restorer"]["repeats"] = 5
    with pytest.raises(ValueError, match=r"retraining\.repeats: expected 1 or 5 \(train_restorer\.repeats\), got 3"):
        Params(**params | {"arms": ["degraded-retrained"]})
    params["retraining"]["repeats"] = 5
    Params(**params | {"arms": ["degraded-retrained"]})


def test_an_objective_with_steps_of_its_own() -> None:
    params = load_params(ROOT / "params.yaml")
    restorer = params.train_restorer.model_copy(update={"steps_of": {"longer": 300, "pixel": 150}})
    losses = {**params.losses, "longer": {"base": "pixel"}}
    objectives = ["pixel", "longer", "diffloss"]
    own = params.model_copy(update={"train_restorer": restorer, "losses": losses, "objectives": objectives})
    check_names(own)
    check_numbers(own)
    with pytest.raises(ValueError, match=r"warm_up must be less than steps_of.pixel \(150\), got 250"):
        TrainRestorer.model_validate({**restorer.model_dump(), "steps": 400, "warm_up": 250})
    assert [restorer.of(name).steps for name in objectives] == [150, 300, 760]
    assert own.pixel_objectives == ["pixel", "longer"]
    assert row_configuration(own, "fog", "diffloss") == row_configuration(
        own.model_copy(update={"train_restorer": params.train_restorer}), "fog", "diffloss"
    )
    assert len({row_configuration(own, "fog", name) for name in objectives}) == 3
    late = {**losses, "diffloss": {**losses["diffloss"], "from_step": 770}}
    with pytest.raises(ParamsError, match=r"from_step: expected less than 760 \(the steps of 'diffloss'\), got 770"):
        check_numbers(own.model_copy(update={"losses": late}))
    only = restorer.model_copy(update={"steps_of": {"diffloss": 800}})
    check_numbers(own.model_copy(update={"losses": late, "train_restorer": only}))


CHAINS = [
    ("[{effect: smog}]", "degrade.recipes.mine: mine, step 1: there is no effect 'smog'. Choose from"),
    (
        "[{effect: jpeg, qualty: 3}]",
        "degrade.recipes.mine: mine, step 1 (jpeg): there is no setting 'qualty'. Choose",
    ),
    ("[{effect: jpeg, quality: 300}]", "degrade.recipes.mine: mine, step 1 (jpeg), quality"),
    ("[{effect: shear}]", "moves pixels, so that boxes and masks of the clean images would be wrong"),
    ("[]", "degrade.recipes.mine: List should have at least 1 item"),
]


@pytest.mark.parametrize(("chain", "message"), CHAINS)
def test_a_mistake_in_an_own_chain(tmp_path: Path, chain: str, message: str) -> None:
    text = (ROOT / "params.yaml").read_text().replace("recipes: {}", f"recipes: {{mine: {chain}}}", 1)
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("[lowlight, fog]", "[mine]", 1))
    with pytest.raises(ParamsError) as caught:
        check_names(load_params(path))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{kind: paired, folder: nowhere}", "degrade.real.cam: there is no folder data/embedded/nowhere"),
        (
            "{kind: unpaired, recipe: smog, data: {source: masks, root: ., masks: {name: x, classes: [a], "
            "things: [], min_pixels: 1}}}",
            "degrade.real.cam.recipe: there is no recipe 'smog'. Choose from",
        ),
        (
            "{kind: unpaired, recipe: thick, data: {source: masks, root: ., masks: {name: x, classes: [a], "
            "things: [], min_pixels: 1}}}",
            "degrade.real.cam.recipe: 'thick' is a sweep, which only evaluation images have. Name a recipe, such as "
            "fog.",
        ),
    ],
)
def test_a_mistake_about_real_photos(tmp_path: Path, section: str, message: str) -> None:
    text = (ROOT / "params.yaml").read_text().replace("real: {}", f"real: {{cam: {section}}}", 1)
    path = tmp_path / "params.yaml"
    sweep = "sweeps: {thick: {recipe: fog, setting: visibility_metres, values: [90, 30]}}"
    path.write_text(text.replace("[lowlight, fog]", "[cam]", 1).replace("sweeps: {}", sweep, 1))
    with pytest.raises(ParamsError) as caught:
        check_names(load_params(path))
    assert message in str(caught.value)


@pytest.mark.parametrize(("old", "new", "message"), FAULTS, ids=[new for _, new, _ in FAULTS])
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ParamsError) as caught:
        params = load_params(path)
        check_names(params)
        check_numbers(params)
    assert message in str(caught.value)
    assert "params.yaml: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_task_without_its_section(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    line = next(line for line in text.splitlines(keepends=True) if line.startswith("  detection:"))
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(line, ""))
    with pytest.raises(ParamsError, match=r"needs a section train_task\.detection\. Add it"):
        check_names(load_params(path))


def test_missing_file() -> None:
    with pytest.raises(ParamsError, match="Run this in the project's root"):
        load_params(Path("nowhere.yaml"))


def test_losses_of_an_objective() -> None:
    params = load_params(ROOT / "params.yaml")
    assert set(params.losses_of("pixel")) == {"pixel"}
    assert set(params.losses_of("diffloss")) == {"pixel", "diffloss"}
    assert params.losses_of("clean") == {}


def test_a_variant_of_the_pixel_loss_takes_its_place() -> None:
    params = load_params(ROOT / "params.yaml")
    losses = {**params.losses, "square": {"base": "pixel", "kind": "l2"}}
    objectives = ["pixel", "square", "square + diffloss"]
    params = params.model_copy(update={"losses": losses, "objectives": objectives})
    check_names(params)
    assert [set(params.losses_of(name)) for name in objectives] == [{"pixel"}, {"square"}, {"square", "diffloss"}]
    assert params.pixel_objectives == ["pixel", "square"]
    other = params.model_copy(update={"losses": {**losses, "pixel": {"kind": "charbonnier"}}})
    assert [row_configuration(params, "fog", name) == row_configuration(other, "fog", name) for name in objectives] == [
        False,
        True,
        True,
    ]


def test_steps_are_found_however_a_sum_is_written() -> None:
    restorer = load_params(ROOT / "params.yaml").train_restorer.model_copy(update={"steps_of": {"task+ diffloss": 9}})
    assert [restorer.of(name).steps for name in ("diffloss + task", "pixel+diffloss+task", "task", "pixel")] == [
        *(9, 9),
        *(760, 760),
    ]


def _with_variant(name: str, **section: object) -> Params:
    params = load_params(ROOT / "params.yaml")
    losses = {**params.losses, name: section}
    return params.model_copy(update={"losses": losses, "objectives": ["pixel", "diffloss", name]})


def test_a_variant_takes_over_what_it_does_not_say() -> None:
    params = _with_variant("late", base="diffloss", timesteps=[400, 900])
    check_names(params)
    check_numbers(params)
    assert params.losses_of("late")["late"] == {
        **params.losses["diffloss"],
        "base": "diffloss",
        "timesteps": [400, 900],
    }
    assert set(params.losses_of("diffloss")) == {"pixel", "diffloss"}
    assert needs(params) == {"prior": True}


@pytest.mark.parametrize(
    ("name", "section", "message"),
    [
        ("late", {"base": "difloss"}, r"losses\.late\.base: 'difloss' is unknown. Choose one of pixel, natural"),
        ("late", {"base": "pixel", "strength": 1}, r"losses\.late\.strength: unknown key. Known keys: kind, weight"),
        ("late", {"timesteps": [4, 9]}, r"losses: 'late' is unknown\. .* losses\.late\.base to define a named loss"),
        ("late", {"base": "diffloss", "strenght": 1}, r"losses\.late\.strenght: unknown key. Known keys: weighting"),
        ("late", {"base": "diffloss", "timesteps": [400, 2000]}, r"losses\.late\.timesteps: expected 0 <= low < high"),
        ("late", {"base": "diffloss", "from_step": "5"}, r"losses\.late\.from_step: .* valid integer, got '5'"),
        ("late", {"base": "diffloss", "timesteps": ["5", 9]}, r"losses\.late\.timesteps\.0: .* valid integer, got '5'"),
        (
            "late",
            {"base": "diffloss", "from_step": -5},
            r"losses\.late.*(strength and from_step >= 0|than or equal to 0)",
        ),
        (
            "late",
            {"base": "diffloss", "every": 0},
            r"losses\.late.*(every and calibrate_every >= 1|than or equal to 1)",
        ),
        ("lpips", {"base": "diffloss"}, r"losses\.lpips: not a name for a loss"),
        ("degraded", {"base": "diffloss"}, r"losses\.degraded: not a name for a loss"),
        ("pixel-retrained", {"base": "diffloss"}, r"losses\.pixel-retrained: not a name for a loss"),
        ("a/b", {"base": "diffloss"}, r"losses\.a/b: not a name for a loss"),
    ],
)
def test_a_mistake_about_a_variant(name: str, section: dict[str, object], message: str) -> None:
    params = _with_variant(name, **section)
    with pytest.raises(ParamsError, match=message):
        check_names(params)
        check_numbers(params)


def _with_data(tmp_path: Path, section: str) -> str:
    """The message about a data section instead of the default one."""
    lines = (ROOT / "params.yaml").read_text().splitlines(keepends=True)
    start = next(index for index, line in enumerate(lines) if line.startswith("data:"))
    end = next(index for index, line in enumerate(lines) if line.startswith("degradations:"))
    path = tmp_path / "params.yaml"
    path.write_text("".join([*lines[:start], f"data: {section}\n", *lines[end:]]))
    with pytest.raises(ParamsError) as caught:
        check_names(load_params(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


COCO = "{source: coco, root: x, coco: {name: x, files: {train: {json: a, images: b}}%s}}"
MASKS = "{source: masks, root: x, masks: {name: x, classes: [a], things: [], min_pixels: 1%s}}"
DATA_FAULTS = [
    (COCO.replace("images: b", "image: b"), "data.coco.files.train.image: unknown key. Known keys: json, images"),
    (COCO.replace("train:", "trian:"), "data.coco.files.trian"),
    (COCO % ", split: {train: 0.5, val: 0.4}", "data.coco.split: the shares add up to 0.9. Make them add up to 1"),
    (COCO % ", split: {val: 0.5, test: 0.5}", "data.coco.split: train and val or test need a share"),
    (
        COCO.replace("train: {", "all: {json: a, images: b}, train: {"),
        "expected the keys train and val or test, or only all",
    ),
    (COCO % ", limit: {train: 0}", "data.coco.limit.train: Input should be greater than or equal to 1, got 0"),
    (
        MASKS % ", layout: kitti",
        "data.masks.layout.name: Input should be 'camvid', 'cityscapes' or 'acdc', got 'kitti'",
    ),
    (MASKS % ", layout: {images: a, masks: b}", "data.masks.layout.folders.image_ending: Field required (and 1 more)"),
    (
        MASKS % ", layout: {images: '{city}', masks: b, image_ending: '', mask_ending: .png}",
        "data.masks.layout.folders.images: '{city}': unknown placeholder. Use {split} and {condition} only",
    ),
    (MASKS % ", colours: {a: [1, 2]}", "data.masks.colours.a: List should have at least 3 items"),
    ("{source: voc, root: x}", "source is 'voc', which needs a section data.voc"),
    (
        "{source: yolo, root: x, faults: ignore, yolo: {name: x}}",
        "data.faults: Input should be 'error', 'skip' or 'skip-labels'",
    ),
]


@pytest.mark.parametrize(("section", "message"), DATA_FAULTS, ids=[message[:40] for _, message in DATA_FAULTS])
def test_a_mistake_in_a_data_section_is_one_line(tmp_path: Path, section: str, message: str) -> None:
    assert message in _with_data(tmp_path, section.replace("%s", ""))


def test_a_null_class_needs_a_pretrained_prior() -> None:
    settings = load_params(ROOT / "params.yaml").train_prior.model_dump()
    with pytest.raises(ValueError, match=r"null_class is of a pretrained prior, and pretrained is null"):
        TrainPrior.model_validate({**settings, "null_class": 10})
    assert TrainPrior.model_validate({**settings, "null_class": 10, "pretrained": "prior"}).null_class == 10
