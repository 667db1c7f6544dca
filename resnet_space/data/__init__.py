"""Data sets: where they are, their splits, and batches of them. Import from the modules."""
