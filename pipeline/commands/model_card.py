"""The card of an exported restorer: what it was made of, what it did on test images, and where it ends. Not a stage."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from models.restorers.contract import Restorer
from pipeline.commands.finished_runs import NEXT, Finished, FinishedError
from pipeline.commands.parity import LARGEST_DIFFERENCE, Latency, Parity
from pipeline.reporting.markdown import table
from pipeline.reporting.tables import QUALITY
from pipeline.settings.grammar import CLEAN
from pipeline.running.digests import data_digest, git_commit
from pipeline.settings.grammar import CLEAN_RESTORED, DEGRADED

LICENCE = (
    "The code is AGPL-3.0-or-later. Nobody has stated a licence for these weights: what the data they were trained on "
    "allow (and the checkpoint they started from, where there was one) holds for them. State one with --licence."
)
USE = """```python
import numpy, onnxruntime                     # neither PyTorch nor this project
session = onnxruntime.InferenceSession("{name}")
images = numpy.random.rand(1, 3, 240, 321).astype("float32")
restored = session.run(None, {{"images": images}})[0]
```"""


@dataclass(frozen=True)
class Exported:
    """What was written and measured beside the card."""

    restorer: Restorer
    file: Path
    parity: Sequence[Parity]
    latency: Latency
    licence: str | None = None


def card(run: Finished, exported: Exported) -> str:
    """The card as Markdown.

    Raises:
        FinishedError: there is no report of this restorer.
    """
    report = run.folder("report")
    results, verdicts = (_read(report / f"{name}.csv", run) for name in ("results", "verdicts"))
    parts = [
        f"# Restorer `{run.objective}` for `{run.degradation}`",
        f"{_architecture(exported.restorer)}, {_weights(exported.restorer):,} weights, trained to undo "
        f"`{run.degradation}` on `{run.clean.info.name}`. Written by `python -m pipeline.commands.deploy` at commit "
        f"{git_commit() or 'unknown (no repository)'}.",
        "## Use",
        *_use(exported),
        "## Made of",
        table(["what", "value"], list(_origin(run, exported))),
        "## Scores",
        *_scores(run, results),
        "## Gains and verdicts",
        *_verdicts(run, verdicts),
        "## Harm on clean images",
        *_harm(run, verdicts),
        "## The same as PyTorch",
        *_parity(exported.parity),
        "## Time",
        _time(exported.latency),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(run)),
        "## Licence",
        exported.licence or LICENCE,
    ]
    return "\n\n".join(parts) + "\n"


def _read(path: Path, run: Finished) -> pd.DataFrame:
    try:
        found = pd.read_csv(path)
    except OSError as error:
        raise FinishedError(f"{path}: cannot be read ({error.strerror}); {NEXT}") from error
    own = found[(found.degradation == run.degradation) & found.variant.isin([*_variants(run), CLEAN, DEGRADED])]
    if run.objective not in set(own.variant):
        raise FinishedError(f"{path}: has no row of {run.objective} on {run.degradation}; {NEXT}")
    return own


def _variants(run: Finished) -> list[str]:
    return [run.objective, f"{CLEAN_RESTORED}{run.objective}"]


def _use(exported: Exported) -> Iterator[str]:
    yield (
        "Images are float32 (N, 3, H, W), RGB in [0, 1]; the result has the same shape and range. Any N, H and W: the "
        f"graph itself reflects images up to multiples of {exported.restorer.multiple} pixels and cuts the result back."
    )
    yield USE.format(name=exported.file.name)
    yield (
        "Folders and videos: `uv run python -m pipeline.commands.restore_files --restorer <this folder> "
        "--input photos --output "
        "restored`."
    )


def _architecture(restorer: Restorer) -> str:
    settings = ", ".join(f"{name} {json.dumps(value)}" for name, value in sorted(restorer.settings.items()))
    return f"`{restorer.name}` ({settings})"


def _weights(restorer: Restorer) -> int:
    return sum(parameter.numel() for parameter in restorer.parameters())


def _origin(run: Finished, exported: Exported) -> Iterator[list[str]]:
    params, training = run.params, run.params.train_restorer.of(run.objective)
    for name, path in ((exported.file.name, exported.file), ("weights", run.weights)):
        yield [f"{name}, SHA-256", _digest(path)]
    yield ["weights from", str(run.weights)]
    yield ["started from", str(training.network["weights"]) if training.restorer == "checkpoint" else "random weights"]
    source = run.clean.info.source.get("source", "unknown")
    yield ["data", f"{run.clean.info.name} (source {source})"]
    for name, dataset in (("clean", run.clean), (run.degradation, run.degraded)):
        if "train" in dataset.info.splits:
            digest = data_digest(dataset.folder / "train")
            yield [f"training images, {name}", f"{dataset.info.splits['train']}, digest {digest}"]
    yield ["degradation", _line(params.degrade.only(run.degradation))]
    yield ["objective", f"{run.objective}: {_line(params.losses_of(run.objective))}"]
    yield ["training", _line(training.training)]
    yield ["seeds", f"seed {params.seed}, training {run.training} of {training.repeats}"]


def _line(settings: Any) -> str:
    return json.dumps(settings).replace('"', "").replace("|", "\\|")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _scores(run: Finished, results: pd.DataFrame) -> Iterator[str]:
    split, level = run.clean.evaluation_split, f"{100 * run.params.statistics.level:g} %"
    note = "" if split == "test" else ", which is no test split: these are validation images"
    yield f"On the split `{split}`{note}. Intervals: {level}, bootstrap over images."
    if run.params.train_restorer.repeats > 1:
        yield "Scores are means over all trainings of this restorer; this file is one of them."
    rows = [
        [row.task, row.metric, row.variant, f"{row.value:.4g}", f"{row.ci_low:.4g} to {row.ci_high:.4g}", row.n_images]
        for row in results[results.variant.isin([CLEAN, DEGRADED, run.objective])].itertuples()
    ]
    header = ["task", "metric", "images are", "value", "interval", "images"]
    yield table(header, [[str(cell) for cell in row] for row in rows])


def _verdicts(run: Finished, verdicts: pd.DataFrame) -> Iterator[str]:
    yield _gain_table(verdicts[verdicts.variant == run.objective])
    yield (
        "*Helps* and *hurts*: the p-value, corrected for all comparisons of the run (Holm), is below "
        f"{1 - run.params.statistics.level:.2g}. *Doesn't help*: the interval ends below "
        f"{run.params.statistics.margin:g}. Image quality (`{QUALITY}`) has no verdict: it is not what counts."
    )


def _harm(run: Finished, verdicts: pd.DataFrame) -> Iterator[str]:
    name = f"{CLEAN_RESTORED}{run.objective}"
    own = verdicts[(verdicts.variant == name) & (verdicts.versus == CLEAN)]
    if len(own):
        yield _gain_table(own)
    else:
        yield f"Not measured. Add `{name}` to `arms` in params.yaml and run `uv run dvc repro`."


def _gain_table(rows: pd.DataFrame) -> str:
    return table(
        ["task", "metric", "against", "gain", "interval", "p (Holm)", "verdict"],
        [
            [
                *(row.task, row.metric, row.versus),
                f"{row.gain:+.4f}",
                f"{row.ci_low:+.4f} to {row.ci_high:+.4f}",
                f"{row.p_holm:.3f}",
                row.verdict,
            ]
            for row in rows.itertuples()
        ],
    )


def _parity(found: Sequence[Parity]) -> Iterator[str]:
    worst = max(one.difference for one in found)
    yield (
        f"Largest difference from PyTorch on degraded evaluation images: {worst:.1e} of the range [0, 1] "
        f"({LARGEST_DIFFERENCE:g} is allowed)."
    )
    rows = [[f"{one.width}x{one.height}", str(one.images), f"{one.difference:.1e}"] for one in found]
    yield table(["pixels", "images at once", "largest difference"], rows)


def _time(latency: Latency) -> str:
    return (
        f"One image of {latency.width}x{latency.height} pixels, {latency.threads} thread(s) on {latency.processor}, "
        f"medians of passes taken in turns: PyTorch {latency.torch_milliseconds:g} ms, "
        f"ONNX Runtime {latency.onnx_milliseconds:g} ms."
    )


def _limits(run: Finished) -> Iterator[str]:
    made = run.degradation not in run.params.degrade.real
    yield (
        f"It has seen `{run.degradation}` as {'drawn by this project' if made else 'photographed'}, in the severities "
        "above, on these data alone. Other weather, cameras, sizes of objects or severities were not measured."
    )
    yield "Scores are of these task networks on these classes; another detector can gain or lose."
    yield "Where nothing is degraded it may do harm: measure that, or put a gate before it (docs/deployment.md)."
    if run.params.restore.tile is not None:
        yield f"The scores were made in tiles of {run.params.restore.tile} pixels; the file restores images whole."
    yield "It draws what is likely, which is no evidence: restored images are not for identifying people or plates."
    if run.params.train_restorer.repeats == 1:
        yield "One training seed: the intervals do not cover another training."
