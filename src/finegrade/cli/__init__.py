"""The command line: one file a command that needs more than a call."""
