from .files import DEFAULT_RECIPE, default, description, differences, load, names, parse_option, read_toml, to_toml

__all__ = [
    "DEFAULT_RECIPE",
    "default",
    "description",
    "differences",
    "load",
    "names",
    "parse_option",
    "read_toml",
    "to_toml",
]
