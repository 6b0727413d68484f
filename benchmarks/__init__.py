"""What the numbers in docs/ were measured with: `python -m benchmarks.<name>`."""
