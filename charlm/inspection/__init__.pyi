from .embedding import principal_components
from .html import document
from .page import model_page

__all__ = [
    "document",
    "model_page",
    "principal_components",
]
