from .embedding import principal_components
from .html import document
from .page import model_page
from .scores import Block, Scores, score_blocks
from .totals import Places, Totals, by_line

__all__ = [
    "Block",
    "Places",
    "Scores",
    "Totals",
    "by_line",
    "document",
    "model_page",
    "principal_components",
    "score_blocks",
]
