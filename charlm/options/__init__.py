"""Checks of options and arguments: ranges.py those of numbers, arguments.py those of strings and names; splits.py."""
