"""What scripts/bench.py compares."""
