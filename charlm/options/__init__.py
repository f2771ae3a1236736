"""Options: ranges.py, the types and ranges of all numeric options; arguments.py, checks of the others."""
