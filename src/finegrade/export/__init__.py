"""Models and samples for other tools."""
