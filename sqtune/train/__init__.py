"""Training: an iterator of results, evaluation and networks on disk."""
