"""HTTP server of trained models, with OpenAI's completions protocol.

Read first: app.py (the addresses), completions.py (a request from JSON to its response), scheduler.py (the thread that
computes). lanes.py: one text. batch.py: continuous batching. guard.py: checks before the body is read.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
