"""Benchmarks: both sides in one run, in random order, ratios paired within a round. Nothing here asserts a figure."""
