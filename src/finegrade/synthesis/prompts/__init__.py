"""The prompts, one file a kind of text."""
