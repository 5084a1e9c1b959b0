"""Asks an OpenAI-compatible LLM; the ledger keeps every reply."""
