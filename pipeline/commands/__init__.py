"""What comes after a finished run: a restorer as a file for elsewhere, its card, and when to use it. No stage."""
