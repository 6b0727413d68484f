"""DVC stages and what they share."""

import os

# Read when torch is imported. Threads that wait by spinning make two busy processes on a shared machine
# several times slower than they need to be.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
