"""Checks of a dataset's pictures: copies, pictures that are hard to use, and the report of all findings."""
