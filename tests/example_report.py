"""A small report with one task and one degradation, whose tables are written by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.dataset import Dataset, DatasetInfo
from pipeline.reporting import contents, tables
from pipeline.reporting.document import Comparison, Document
from pipeline.reporting.origin import EvaluatedSplit, Origin
from pipeline.reporting.prediction_pictures import make_sliders
from pipeline.reporting.score_rows import GAINS, RESULTS
from pipeline.settings.params import Statistics, load_params
from pipeline.statistics.comparison import ONE_TRAINING
from pipeline.statistics.verdicts import verdict_table

ROOT = Path(__file__).parents[1]
NAMES = ("name", "degradation", "variant", "class", "image", "metric", "commit", "experiment", "split", "settings")
BUDGET = 2_500_000


def write_tables(folder: Path, names: dict[str, str]) -> None:
    """Every CSV file that a report cannot do without, and curves, images and classes."""
    variants = {"clean": 0.612345, "degraded": 0.201234, "pixel": 0.412348, names["variant"]: 0.398761}
    results, gains = [], []
    for task, metric in (("detection", "mAP50-95"), ("detection", names["metric"]), ("quality", "PSNR")):
        for variant, value in variants.items():
            row = {"task": task, "degradation": names["degradation"], "variant": variant, "metric": metric}
            ends = {"ci_low": value - 0.1, "ci_high": value + 0.1}
            results.append({**row, "value": value, **ends, "n_images": 3, "n_groups": 3, "n_trainings": 1})
            if variant != "degraded":
                gain = value - variants["degraded"]
                entry = {"versus": "degraded", "p_value": 0.0004, "recovered": gain / 0.411111, "gain": gain}
                entry |= {"recovered_low": gain / 0.5, "recovered_high": gain / 0.4, "n_groups": 3, "n_trainings": 1}
                gains.append({**row, **entry, "ci_low": gain - 0.05, "ci_high": gain + 0.05, "reason": ""})
        entry = {"versus": "pixel", "gain": -0.013587, "n_groups": 3, "n_trainings": 1, "reason": ONE_TRAINING}
        gains.append({**row, **entry})
    tables.write_table(results, RESULTS, folder / "results.csv")
    written = tables.write_table(gains, GAINS, folder / "gains.csv")
    verdicts = verdict_table(pd.DataFrame(results), written, Statistics(resamples=2000, level=0.95, margin=0.01))
    verdicts.to_csv(folder / "verdicts.csv", index=False, float_format="%.6g")
    curves = [
        {"degradation": names["degradation"], "variant": names["variant"], "step": s, "loss": 1 / s} for s in (1, 2, 3)
    ]
    keys = {"task": "detection", "degradation": names["degradation"], "metric": "F1"}
    scores = [
        {**keys, "variant": variant, "id": image_id, "score": score}
        for variant, pair in (("degraded", (0.1, 0.5)), (names["variant"], (0.4, 0.2)))
        for image_id, score in zip((names["image"], "b"), pair, strict=True)
    ]
    value = {"class": names["class"], "metric": "AP50", "value": 0.25, "ci_low": "", "ci_high": "", "n_objects": 4}
    classes = [
        {**keys, **value, "variant": "degraded", "gain": ""},
        {**keys, **value, "variant": names["variant"], "value": 0.5, "gain": 0.25, "gain_low": -0.05, "gain_high": 0.4},
    ]
    for name, rows in (("curves", curves), ("images", scores), ("classes", classes)):
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)


def describe(folder: Path, names: dict[str, str], arms: Sequence[str] = ()) -> Document:
    """The description of the report in a folder with its tables."""
    params = load_params(ROOT / "params.tiny.yaml")
    lists = {"degradations": [names["degradation"]], "tasks": ["detection"], "arms": list(arms)}
    params = params.model_copy(update=lists)
    splits = {names["split"]: 3, "test": 3}
    clean = Dataset(folder, DatasetInfo(names["name"], {"detection": [names["class"]]}, splits, {}))
    data = [EvaluatedSplit(names["name"], names["split"], 3, "0")]
    origin = Origin(names["commit"], names["experiment"], data, names["settings"])
    images = [np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8) for seed in range(2)]
    columns = {"degraded": images, names["variant"]: images, "clean": images}
    sliders = make_sliders([names["image"], "b"], columns, BUDGET)
    pictures = contents.Pictures([Comparison(names["degradation"], "detection", "fog-detection.jpg", sliders)])
    return contents.describe_report(params, clean, folder, {}, origin, pictures, {"LPIPS": "no weights"})
