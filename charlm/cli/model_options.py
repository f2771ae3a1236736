"""Options of `charlm eval` and `charlm sample` for mixtures and for dynamic evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from charlm.cli.options import Number
from charlm.errors import UsageError

if TYPE_CHECKING:
    from charlm.experiments.trained_models import DynamicOptions

METHODS = {
    "rms": "gradient steps, scaled by the RMS gradient of the training text (also for --dynamic alone)",
    "sgd": "plain gradient steps",
}
MIX = (
    "the model is mixed with contexts of the text (characters, words) by weights that are learned as it is read; with "
    "--rate it also takes the steps of rms"
)


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> list[float] | None:
    try:
        return None if value is None else [float(number) for number in value.split(",")]
    except ValueError:
        raise UsageError(f"--weights {value}: give one number a model, separated by commas") from None


def model_use_options(
    methods: dict[str, str], rate: str, decay: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the options of mixtures and dynamic evaluation; `dynamic_options` checks them.

    Args:
        methods: help of each method of --dynamic.
        rate: default of --rate, in words.
        decay: default of --decay, in words.
    """
    dynamic = (
        "Let the model learn from the text that it reads (dynamic evaluation); without it, the model stays as trained "
        "(static). "
    )
    options = (
        click.option(
            "--weights", callback=_numbers, help="Mixture weights, as 0.7,0.3. [default: fitted on validation text]"
        ),
        click.option(
            "--segment-len", type=Number("segment_len"), help="Characters between two --dynamic steps. [default: 32]"
        ),
        click.option(
            "--decay",
            type=Number("decay"),
            help=f"Decay towards the trained weights in each --dynamic step. [default: {decay}]",
        ),
        click.option("--rate", type=Number("rate"), help=f"Learning rate of --dynamic. [default: {rate}]"),
        click.option(
            "--dynamic",
            type=click.Choice(list(methods)),
            is_flag=False,
            flag_value="rms",
            help=dynamic + " ".join(f"{name}: {text}." for name, text in methods.items()),
        ),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in options:
            command = option(command)
        return command

    return decorate


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
                raise UsageError(f"--{name} needs --dynamic")
    if dynamic == "mix" and rate is None and (decay is not None or segment_len is not None):
        raise UsageError("--decay and --segment-len of --dynamic mix need --rate, without which no steps are taken")
    if weights is not None and n_models < 2:
        raise UsageError("--weights needs several models; name them all")
    if dynamic is None:
        return None

    from charlm.experiments.trained_models import DynamicOptions

    return DynamicOptions(dynamic, rate, decay, segment_len)
