"""Keeps the texts of benchmarks out of training."""
