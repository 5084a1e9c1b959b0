"""Where seeds come from: one file per format, and the split that keeps test data out of training."""
