"""Training data that other tools wrote."""
