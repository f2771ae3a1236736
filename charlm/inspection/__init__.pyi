from .embedding import neighbours, principal_components
from .experts import expert_weights
from .gradient_flow import GradientFlow, gradient_flow
from .html import document
from .page import model_page
from .saliency import Context, integrated_gradients, left_out
from .scores import Block, Scores, score_blocks
from .surprises import Surprises
from .totals import Totals, by_line
from .units import UnitScore, activations, best_units

__all__ = [
    "Block",
    "Context",
    "GradientFlow",
    "Scores",
    "Surprises",
    "Totals",
    "UnitScore",
    "activations",
    "best_units",
    "by_line",
    "document",
    "expert_weights",
    "gradient_flow",
    "integrated_gradients",
    "left_out",
    "model_page",
    "neighbours",
    "principal_components",
    "score_blocks",
]
