"""Training data: files in, checked records and batches out."""
