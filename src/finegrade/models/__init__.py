"""Model names, downloads, encoders and scorers."""
