"""Everything that can be wrong in params.yaml beyond a wrong value: no YAML, hostile YAML, and what `plan` finds."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.plan import check_names, check_numbers
from pipeline.settings.params import ParamsError, load_params
from pipeline.training.foreign_networks import describe_restorer, describe_task
from tests.fault_table import Fault, edit, names, refuses

ROOT = Path(__file__).parents[1]
FILE = "params.yaml"
CAMVID = "params.camvid.yaml"


def _check(folder: Path) -> None:
    """What the stage `plan` does before it writes."""
    params = load_params(folder / FILE)
    check_names(params)
    check_numbers(params)
    for task in params.tasks:
        describe_task(task, params.task_settings(task), folder / "weights")
    describe_restorer(params.train_restorer, folder / "weights")


def _written(content: str | bytes) -> Callable[[Path], None]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / FILE).write_bytes(data) and None


def _changed(old: str, new: str, name: str = "params.tiny.yaml") -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        shutil.copyfile(ROOT / name, folder / FILE)
        edit(folder / FILE, old, new)

    return prepare


def _weights(content: bytes | None, name: str, old: str, new: str) -> Callable[[Path], None]:
    """A file of weights beside a params.yaml that names it as {file}."""

    def prepare(folder: Path) -> None:
        path = folder / name
        if content is not None:
            path.write_bytes(content)
        _changed(old, new.format(file=path))(folder)

    return prepare


NO_YAML = [
    ("empty", "", "params.yaml: Input should be a valid dictionary"),
    ("a list", "- 1\n- 2\n", "params.yaml: Input should be a valid dictionary"),
    ("NUL", "seed: \0", "not valid YAML: unacceptable character"),
    ("UTF-16", "seed: 0".encode("utf-16"), "unknown key|valid dictionary|not valid YAML|Field required"),
    ("Latin-1", b"seed: \xe9", "not valid YAML: unacceptable character"),
    ("tabs", "seed:\n\t- 1", "not valid YAML: .*cannot start any token"),
    ("an open bracket", "seed: [1, 2", "not valid YAML"),
    ("brackets without end", "[" * 3000, "not valid YAML: maximum recursion"),
    ("a value inside itself", "&a [*a]", "valid dictionary"),
    ("a key twice", "seed: 1\nseed: 2\n", "not valid YAML: .*duplicate key"),
    ("Python in YAML", "!!python/object/apply:os.system [id]", "not valid YAML: could not determine a constructor"),
    ("a month 99", "seed: 2001-99-99", "not valid YAML: month must be in 1..12"),
    ("a tag that does not fit", "seed: !!int x", "not valid YAML: invalid literal"),
    ("a truth that is none", "seed: !!bool x", "not valid YAML: 'x'"),
    ("a number of 5000 digits", "seed: " + "9" * 5000, "not valid YAML: Exceeds the limit"),
    ("two documents", "seed: 1\n---\nseed: 2\n", "not valid YAML: expected a single document"),
]
CHECKPOINT = ("checkpoint: {weights: null}", "checkpoint: {{weights: {file}}}")
CHOSEN = ("restorer: nafnet", "restorer: checkpoint")
WRONG = [
    ("seed of 400 digits", "seed: 0", "seed: 1" + "0" * 400, "seed: Input should be less than 9223372036854775808"),
    ("root that is a list", "root: data/embedded", "root: [a]", "data.root: Input should be a valid string"),
    ("no seed", "seed: 0\n", "", "seed: Field required"),
    ("infinite rate", "learning_rate: 4.0e-4", "learning_rate: .inf", "train_prior.learning_rate: .*finite number"),
    ("rate that is no number", "learning_rate: 4.0e-4", "learning_rate: .nan", "train_prior.learning_rate: .*finite"),
    ("task without a section", "tasks: [detection, ", "tasks: [depth, ", "tasks: 'depth' is unknown. Choose one of"),
    ("section of an unknown task", "train_task:\n", "train_task:\n  depths: {}\n", "train_task: 'depths' is unknown"),
    ("section that is a word", "losses:\n", "losses: yes\nlosts:\n", "losts: unknown key. Known keys: seed, data"),
    ("empty section of a loss", "pixel: {kind: l1}", "pixel:", "losses.pixel: .*valid dictionary"),
    ("unknown loss", "  pixel: {kind: l1}", "  pixle: {kind: l1}", "losses: 'pixle' is unknown. Choose one of pixel"),
    ("unknown kind of a loss", "kind: l1", "kind: l3", "losses.pixel.kind: .*'l1'"),
    ("empty objective", "[pixel, diffloss]", "[pixel, '']", "objectives: objective ''"),
    ("arm of an unknown objective", "arms: []", "arms: [pixl-retrained]", "arms: .*pixl"),
    ("batch of one", "batch: 8", "batch: 1", "train_task.detection.batch: .*greater than or equal to 2"),
    ("model that is none", "model: yolo11n.yaml", "model: yolo99.yaml", "train_task.detection.model: 'yolo99.yaml'"),
    ("model that is a pickle", "model: yolo11n.yaml", "model: x.pt", "a .pt file belongs in weights"),
    ("model of another task", "model: yolo11n.yaml", "model: yolo11n-seg.yaml", "not among ultralytics' for this task"),
    ("no such encoder", "tu-mobilenetv3_small_050", "tu-nothing", "cannot build architecture 'unet'"),
    ("no such architecture", "architecture: unet", "architecture: vnet", "cannot build architecture 'vnet'"),
    (
        "frozen without weights",
        "{architecture: unet",
        "{frozen: true, architecture: unet",
        "frozen: true needs weights",
    ),
    ("no such weights", "yolo11n.yaml, weights: null", "yolo11n.yaml, weights: nowhere.pt", "no such file or folder"),
    ("levels of different length", "decoder_blocks: [1, 1]", "decoder_blocks: [1]", "must have the same length"),
    ("restorer that is none", "restorer: nafnet", "restorer: nafnett", "train_restorer.restorer: 'nafnett' is unknown"),
    ("negative tile", "tile: null", "tile: -5", "restore.tile: Input should be greater than or equal to"),
    ("level of 1", "level: 0.95", "level: 1", "statistics.level: Input should be less than 1"),
    (
        "folder of a photo that is none",
        "real: {}",
        "real: {cam: {kind: paired}}",
        "degrade.real.cam.paired.folder: Field",
    ),
]
LAYOUTS = [
    ("attribute in braces", "images: '{split.foo}', masks: x"),
    ("index in braces", "images: '{split[0]}', masks: x"),
    ("width in braces", "images: '{split:9999999999}', masks: x"),
    ("open brace", "images: '{split', masks: x"),
]
FAULTS = [
    *(Fault(name, _written(content), _check, match) for name, content, match in NO_YAML),
    *(Fault(name, _changed(old, new), _check, match) for name, old, new, match in WRONG),
    Fault("no file", lambda folder: None, _check, "params.yaml: cannot be read .*. Run this in the project's root"),
    Fault("a folder", lambda folder: (folder / FILE).mkdir(), _check, "params.yaml: cannot be read"),
    *(
        Fault(
            name,
            _changed("  masks:\n", f"  masks:\n    layout: {{{layout}, image_ending: '', mask_ending: ''}}\n", CAMVID),
            _check,
            "data.masks.layout.folders.images: .*unknown placeholder. Use {split} and {condition} only",
        )
        for name, layout in LAYOUTS
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=names(FAULTS))
def test_a_fault_in_params_yaml_is_one_line(fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    refuses(fault, tmp_path, ParamsError)


CHECKPOINTS = [
    ("not there", None, "x.safetensors", "no such restorer checkpoint"),
    ("empty", b"", "x.safetensors", "not a readable safetensors file"),
    ("no weights", b"hello", "x.pth", "not readable as weights alone; nothing in it was run"),
    ("of another format", b"hello", "x.onnx", "expected a .safetensors, .pth"),
]


@pytest.mark.parametrize(
    ("content", "name", "match"), [row[1:] for row in CHECKPOINTS], ids=[r[0] for r in CHECKPOINTS]
)
def test_a_restorer_from_elsewhere_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, name: str, match: str
) -> None:
    def prepare(folder: Path) -> None:
        _weights(content, name, *CHECKPOINT)(folder)
        edit(folder / FILE, *CHOSEN)

    monkeypatch.chdir(ROOT)
    refuses(Fault(name, prepare, _check, f"train_restorer.checkpoint.weights: .*{match}"), tmp_path, ParamsError)
