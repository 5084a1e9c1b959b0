"""Queries, positives and negatives that an LLM writes."""
