"""A search, guided by coverage, for input that a parser neither reads nor refuses in one line. Not a test.

    uv run --with atheris==3.0.0 python -m tests.fuzz params -max_total_time=300

The first argument is one of TARGETS, the others are libFuzzer's. What it finds ends the search with its traceback and
is written to crash-*: mend the parser and keep the input as an @example of the property test.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

# libFuzzer for Python; brought by --with, not by this project.
atheris: Any = import_module("atheris")
with atheris.instrument_imports(include=["data", "pipeline"]):
    from data.dataset import Dataset
    from data.labels import DatasetError, read_boxes, read_category, read_instances
    from pipeline.plan import check_names, check_numbers
    from pipeline.settings.params import ParamsError, load_params
    from tests.outside_data import WRITERS, open_source
    from tests.properties import refused_well
    from tests.test_properties_labels import BOXES, COCO, INSTANCES, POLYGONS, XML, read_all
    from tests.test_properties_manifests import INFO, REFUSALS, build_manifests, redo_all
    from tests.test_properties_params import TEXT

Call = Callable[[], Any]


def _params(folder: Path) -> tuple[Path, Call]:
    def read() -> None:
        params = load_params(folder / "params.yaml")
        check_names(params)
        check_numbers(params)

    return folder / "params.yaml", read


def _source(name: str, file: str, folder: Path) -> tuple[Path, Call]:
    settings: dict[str, Any] = WRITERS[name](folder)
    if name == "coco":
        settings["files"] = {"train": {"json": "train.json", "images": "train"}}
    settings |= {"masks": True}
    return folder / file, lambda: read_all(open_source(name, folder, settings, trust_paths=False), folder)


def _own_labels(folder: Path) -> tuple[Path, Call]:
    def read() -> None:
        for reader in (read_boxes, read_instances, read_category):
            refused_well(partial(reader, folder / "labels"), DatasetError)

    return folder / "labels", read


def _description(folder: Path) -> tuple[Path, Call]:
    return folder / "dataset.json", lambda: Dataset.open(folder)


def _manifest(folder: Path) -> tuple[Path, Call]:
    return build_manifests(folder), lambda: redo_all(folder)


# What makes the file to write to and the call that reads it; what it may begin from; the errors it may raise.
TARGETS: dict[str, tuple[Callable[[Path], tuple[Path, Call]], list[str], tuple[type[Exception], ...]]] = {
    "params": (_params, [TEXT], (ParamsError,)),
    "yolo": (partial(_source, "yolo", "labels/train/1.txt"), [BOXES, POLYGONS], (DatasetError,)),
    "voc": (partial(_source, "voc", "VOC2012/Annotations/2012_00.xml"), [XML], (DatasetError,)),
    "coco": (partial(_source, "coco", "train.json"), [json.dumps(COCO)], (DatasetError,)),
    "labels": (_own_labels, [BOXES, INSTANCES, "3\n"], (DatasetError,)),
    "description": (_description, [json.dumps(INFO)], (DatasetError,)),
    "manifest": (_manifest, [], REFUSALS),
}


def main() -> None:
    """Command line."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(TARGETS)}}} [libFuzzer's options]")
    make, begin, refusals = TARGETS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory(prefix="restoration-fuzz-") as name:
        folder, corpus = Path(name) / "data", Path(name) / "corpus"
        folder.mkdir()
        corpus.mkdir()
        path, read = make(folder)
        begin = begin or [path.read_text()]
        for number, text in enumerate(begin):
            (corpus / f"{number}").write_text(text)

        def one(content: bytes) -> None:
            path.write_bytes(content)
            refused_well(read, *refusals)

        atheris.Setup([*sys.argv, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
