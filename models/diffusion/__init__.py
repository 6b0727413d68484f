"""Frozen diffusion models as sources of features: predicted noise and h-space."""
