"""How images and predictions are measured: metrics, stored predictions, scores in every resample."""
