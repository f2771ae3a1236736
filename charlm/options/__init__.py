"""Options: ranges.py, the table of the types and ranges of all numeric options."""
