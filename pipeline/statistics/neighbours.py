"""Do neighbouring images, or groups, gain alike, as those of one video do? Serial correlation and design effect."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from pipeline.metrics import QUALITY
from pipeline.settings.params import Params
from pipeline.statistics.correlations import image_gains
from pipeline.statistics.systems import Floats

FEWEST_VALUES = 10  # images or groups
LARGEST_CORRELATION = 0.95  # above it, a design effect from one number is a guess
SIGNIFICANCE = 0.01  # of all tests of a report together


@dataclass(frozen=True)
class SerialCorrelation:
    """The correlation of neighbouring values of a series.

    Attributes:
        value: lag-1 autocorrelation; NaN if the series is constant or too short.
        p_value: one-sided, of "not above 0", for independent values.
    """

    value: float
    p_value: float

    @property
    def design_effect(self) -> float:
        """The factor by which the variance of the mean is larger than that of independent values; at least 1.

        (1 + r) / (1 - r), for a series whose correlation falls as r, r², r³, ... (AR(1)).
        Source: Bayley and Hammersley, "The effective number of independent observations in an autocorrelated time
        series", Journal of the Royal Statistical Society B 8 (1946).
        """
        correlation = min(max(self.value, 0.0), LARGEST_CORRELATION)
        return (1 + correlation) / (1 - correlation)


def serial_correlation(series: Floats) -> SerialCorrelation:
    """The correlation of neighbours in a series (N,) of values in their order.

    The estimate for independent values is about normal with mean -1 / N and variance 1 / N.
    """
    centred = series - series.mean() if len(series) else series
    total = float(centred @ centred)
    if len(series) < FEWEST_VALUES or not total > 0:
        return SerialCorrelation(math.nan, math.nan)
    value = float(centred[1:] @ centred[:-1]) / total
    return SerialCorrelation(value, float(special.ndtr(-(value + 1 / len(series)) * math.sqrt(len(series)))))


def video_cautions(params: Params, images: pd.DataFrame, groups: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A caution if images, or groups of them, gain like their neighbours.

    The gain of an image is the mean over objectives and severities, so that the noise of single restorers does not
    hide the correlation. Images are in the order of their ids, groups in that of their first images.

    Args:
        params: the objectives and the data's source.
        images: images.csv.
        groups: of the images of each degradation, by their ids.
    """
    gains = image_gains(images[images.task != QUALITY], params.objectives)
    gains = gains.assign(id=gains.id.astype(str).str.split("/").str[-1])
    series = gains.groupby(["task", "degradation", "metric", "id"]).gain.mean().dropna()
    correlations: list[tuple[SerialCorrelation, bool]] = []  # and whether it is that of groups
    for (_, degradation, _), values in series.groupby(level=["task", "degradation", "metric"]):
        of_images = values.droplevel(["task", "degradation", "metric"])
        if group_of := groups.get(degradation):
            of_images = of_images.groupby([group_of.get(id, id) for id in of_images.index], sort=False).mean()
        correlations.append((serial_correlation(of_images.to_numpy(dtype=np.float64)), bool(group_of)))
    similar = [found for found in correlations if found[0].p_value * len(correlations) < SIGNIFICANCE]
    if not similar:
        return []
    strongest, grouped = max(similar, key=lambda found: found[0].value)
    key = f"data.{params.data.source}.groups"
    return [
        f"{'Groups' if grouped else 'Images'} gain like their neighbours (correlation {strongest.value:.2f}), as parts "
        f"of one video do. The design effect is {strongest.design_effect:.1f}: intervals are too narrow by about a "
        f"factor {math.sqrt(strongest.design_effect):.1f}. {'Make the groups larger:' if grouped else 'Set'} {key}."
    ]
