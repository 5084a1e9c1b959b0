"""The stages: each reads and writes the run folder and calls one package. They meet only in the run folder."""
