"""Training data of other people: its formats are read for verification, and what is left is written back in them."""
