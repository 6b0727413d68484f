"""The stages of dvc.yaml on several workers, through DVC itself. Not a stage."""
