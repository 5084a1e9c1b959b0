"""Documents, pairs and queries: read, cut, split."""
