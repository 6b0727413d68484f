"""Do neighbouring images gain alike, as the frames of a video do? Serial correlation and its effect on intervals."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.metrics import QUALITY
from pipeline.settings.params import Params
from pipeline.statistics.correlations import image_gains
from pipeline.statistics.systems import Floats

FEWEST_IMAGES = 10
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
    if len(series) < FEWEST_IMAGES or not total > 0:
        return SerialCorrelation(math.nan, math.nan)
    value = float(centred[1:] @ centred[:-1]) / total
    return SerialCorrelation(value, float(stats.norm.sf((value + 1 / len(series)) * math.sqrt(len(series)))))


def video_cautions(params: Params, images: pd.DataFrame, groups: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A caution if images without groups gain like their neighbours.

    The gain of an image is the mean over objectives and severities, so that the noise of single restorers does not
    hide the correlation. Images are in the order of their ids.

    Args:
        params: the objectives and the data's source.
        images: images.csv.
        groups: of the images of each degradation, by their ids.
    """
    gains = image_gains(images[images.task != QUALITY], params.objectives)
    gains = gains.assign(id=gains.id.astype(str).str.split("/").str[-1])
    series = gains.groupby(["task", "degradation", "metric", "id"]).gain.mean().dropna()
    correlations = [
        serial_correlation(np.asarray(values, dtype=np.float64))
        for (_, degradation, _), values in series.groupby(level=["task", "degradation", "metric"])
        if not groups.get(degradation)
    ]
    similar = [found for found in correlations if found.p_value * len(correlations) < SIGNIFICANCE]
    if not similar:
        return []
    strongest = max(similar, key=lambda found: found.value)
    return [
        f"The images look like video frames: gains of neighbouring images correlate ({strongest.value:.2f}). "
        f"The design effect is {strongest.design_effect:.1f}: intervals are too narrow by about a factor "
        f"{math.sqrt(strongest.design_effect):.1f}. Set data.{params.data.source}.groups."
    ]
