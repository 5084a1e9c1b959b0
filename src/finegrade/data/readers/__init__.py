"""One file a file format of documents."""
