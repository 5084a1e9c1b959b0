"""The same requests through the Batch API."""
