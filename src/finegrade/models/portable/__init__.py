"""What a saved model carries with it: flat files with sibling imports only, so that it works where finegrade is not."""
