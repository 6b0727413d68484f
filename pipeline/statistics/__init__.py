"""Resampling, intervals, tests, multiple comparisons, verdicts: `compare` is the entry point for other programs."""

from pipeline.statistics.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]
