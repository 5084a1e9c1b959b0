"""The LLM: one client for every server, one ledger for every reply, one server that comes along."""
