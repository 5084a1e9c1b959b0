"""Scores of retrieval and similarity, with intervals."""
