"""Pages, charts and cards."""
