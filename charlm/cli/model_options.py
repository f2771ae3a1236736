"""Options of `charlm eval` and `charlm sample` for mixtures and for dynamic evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from charlm.cli.options import Number
from charlm.errors import UsageError

if TYPE_CHECKING:
    from charlm.experiments.trained_models import DynamicOptions


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> list[float] | None:
    try:
        return None if value is None else [float(number) for number in value.split(",")]
    except ValueError:
        raise UsageError(f"--weights {value}: give one number a model, separated by commas") from None


def model_use_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of mixtures and of dynamic evaluation to a command; `dynamic_options` checks them."""
    for option in (
        click.option(
            "--weights", callback=_numbers, help="Mixture weights, as 0.7,0.3. [default: fitted on validation text]"
        ),
        click.option(
            "--segment-len", type=Number("segment_len"), help="Characters between two --dynamic steps. [default: 32]"
        ),
        click.option("--decay", type=Number("decay"), help="Decay towards the trained weights in each --dynamic step."),
        click.option("--rate", type=Number("rate"), help="Learning rate of --dynamic."),
        click.option(
            "--dynamic",
            type=click.Choice(["sgd", "rms", "mix"]),
            is_flag=False,
            flag_value="rms",
            help="Dynamic evaluation: update the weights on the text that has been read, with plain SGD steps or with "
            "steps scaled by the RMS gradient of the training text (rms, the default method). mix: mix the model with "
            "contexts of the text by weights that are learned as it is read; with --rate, take the steps of rms, too.",
        ),
    ):
        command = option(command)
    return command


def dynamic_options(
    n_models: int,
    weights: Sequence[float] | None,
    dynamic: str | None,
    rate: float | None,
    decay: float | None,
    segment_len: int | None,
) -> DynamicOptions | None:
    """Return the options of dynamic evaluation; None without --dynamic.

    Raises:
        UsageError: options of dynamic evaluation without --dynamic, or weights without a mixture.
    """
    if dynamic is None:
        for name, value in (("rate", rate), ("decay", decay), ("segment-len", segment_len)):
            if value is not None:
                raise UsageError(f"--{name} needs --dynamic sgd or --dynamic rms")
    if dynamic == "mix" and rate is None and (decay is not None or segment_len is not None):
        raise UsageError("--decay and --segment-len of --dynamic mix need --rate")
    if weights is not None and n_models < 2:
        raise UsageError("--weights needs several models; name them all")
    if dynamic is None:
        return None

    from charlm.experiments.trained_models import DynamicOptions

    return DynamicOptions(dynamic, rate, decay, segment_len)
