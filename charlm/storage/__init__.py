"""Checkpoint files and run folders.

Read first: checkpoint.py (the file), then runs.py (the folders) and run_log.py (metrics.jsonl in them).
file_format.py: the bytes of a checkpoint; weights.py: the weights of a model by name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
