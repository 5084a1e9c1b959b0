"""BM25, dense search, near duplicates, and mining of negatives."""
