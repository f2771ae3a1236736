"""Checks of options and arguments: ranges.py those of numbers, arguments.py those of strings, choices and names."""
