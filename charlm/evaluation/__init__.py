"""Loss in nats and bits, the one protocol, and dynamic evaluation.

Read first: metrics.py, protocol.py, then dynamic.py. search.py chooses the learning rate of dynamic evaluation.
Context mixing: mixing.py, context_mixer.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
