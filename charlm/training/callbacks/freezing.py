"""Freezing of layer groups, and gradual unfreezing."""

from __future__ import annotations

from charlm.training.groups import Groups, frozen_groups
from charlm.training.loop import Callback, TrainState


class Freeze(Callback):
    """Keep the weights of some layer groups, for the whole training or until their turn comes.

    Gradual unfreezing trains the last group first and one more every N epochs, from head to embedding. The groups that
    train follow from the position in the feed alone, so a resumed training needs no state of this callback. Frozen
    parameters get no gradient.

    Reference: Howard and Ruder (2018), arXiv:1801.06146, section 3.3.

    Args:
        groups: of the model, see `layer_groups`.
        freeze: names of groups that never train, see `frozen_groups`.
        unfreeze_epochs: N; None trains all other groups from the beginning.

    Raises:
        UsageError: there is no such group, or no other is left.
    """

    def __init__(self, groups: Groups, freeze: tuple[str, ...] = (), unfreeze_epochs: float | None = None) -> None:
        frozen = frozen_groups(groups, freeze)
        self.trainable = [parameters for name, parameters in groups.items() if name not in frozen]
        self.parameters = [parameter for parameters in groups.values() for parameter in parameters]
        self.unfreeze_epochs = unfreeze_epochs

    def on_batch_start(self, state: TrainState) -> None:
        """Let the groups whose turn has come train."""
        n_groups = len(self.trainable)
        if self.unfreeze_epochs:
            epochs = state.epoch + state.step_in_epoch / len(state.feed)
            n_groups = min(n_groups, 1 + int(epochs / self.unfreeze_epochs))
        trained = {id(parameter) for group in self.trainable[-n_groups:] for parameter in group}
        for parameter in self.parameters:
            parameter.requires_grad_(id(parameter) in trained)

    def on_fit_end(self, state: TrainState) -> None:
        """Let all parameters have gradients again, as in a model that was just loaded."""
        for parameter in self.parameters:
            parameter.requires_grad_()
