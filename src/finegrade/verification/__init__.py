"""Decides whether a negative is negative, and its level."""
