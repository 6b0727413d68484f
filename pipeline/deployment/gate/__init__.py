"""Restore this image or not: predicted from the degraded image and from what the task's network finds on it."""
