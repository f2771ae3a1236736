from .app import create_app
from .server import load_models, open_socket, serve
from .settings import Settings, read_keys

__all__ = ["Settings", "create_app", "load_models", "open_socket", "read_keys", "serve"]
