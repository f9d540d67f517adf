"""The measurements behind every figure that the README gives: `python3 run.py bench`."""
