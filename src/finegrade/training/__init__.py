"""The order of training rows, and the Trainer."""
