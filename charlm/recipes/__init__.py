"""The recipes that come with the package, one TOML file each, and files.py, which reads and writes such files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
