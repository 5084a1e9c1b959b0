"""Metrics, and the scores of one row."""
