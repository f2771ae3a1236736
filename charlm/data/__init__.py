"""From a file's bytes to batches of indices."""
