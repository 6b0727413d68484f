"""Training: the loop with its checkpoints, the optimiser, validation, several ranks."""
