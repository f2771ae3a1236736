"""Counts of character and word contexts, in numpy."""
