"""What trainings share: the loop with its checkpoints, the optimiser, validation, several processes."""
