"""Architectures: characters to logits, one file each.

Read first: base.py (the interface), then the files in the order of `MODELS`. recurrent.py, min_rnn.py and counting.py
are base classes; layers/ has the layers.

To add one: write its file, import its class here and add its line to `MODELS`. One that is not in the package is named
"mine.py:MyRNN" (`use`), or belongs to an installed package (custom.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from charlm.errors import UsageError, did_you_mean, shown
from charlm.models.awd_lstm import AWDLSTM
from charlm.models.base import CharModel, State
from charlm.models.char3 import Char3
from charlm.models.concat import Concat
from charlm.models.counting import CountingModel
from charlm.models.custom import import_class, import_installed, installed
from charlm.models.gru import GRU
from charlm.models.gru_scratch import GRUScratch
from charlm.models.loop import Loop
from charlm.models.lstm import LSTM
from charlm.models.lstm_ngram import LSTMNGram
from charlm.models.lstm_scratch import LSTMScratch
from charlm.models.mamba2 import Mamba2
from charlm.models.min_gru import MinGRU
from charlm.models.min_lstm import MinLSTM
from charlm.models.mogrifier import Mogrifier
from charlm.models.ngram import NGram
from charlm.models.rnn import RNN
from charlm.models.rnn_scratch import RNNScratch
from charlm.models.size import check_memory, machine_memory
from charlm.models.transformer import Transformer
from charlm.models.word_ngram import WordNGram
from charlm.options.arguments import checked_text
from charlm.options.ranges import checked_number, model_option_range

__all__ = ["MODELS", "CharModel", "CountingModel", "State", "build", "canonical", "find", "options_of", "use"]
__all__ += ["AWDLSTM", "GRU", "LSTM", "RNN", "Char3", "Concat", "GRUScratch", "LSTMNGram", "LSTMScratch", "Loop"]
__all__ += ["Mamba2", "MinGRU", "MinLSTM", "Mogrifier", "NGram", "RNNScratch", "Transformer", "WordNGram"]

MODELS: dict[str, type[CharModel]] = {
    "ngram": NGram,
    "word-ngram": WordNGram,
    "char3": Char3,
    "loop": Loop,
    "concat": Concat,
    "rnn": RNN,
    "rnn-scratch": RNNScratch,
    "gru": GRU,
    "gru-scratch": GRUScratch,
    "lstm": LSTM,
    "lstm-scratch": LSTMScratch,
    "awd-lstm": AWDLSTM,
    "lstm-ngram": LSTMNGram,
    "mogrifier": Mogrifier,
    "min-gru": MinGRU,
    "min-lstm": MinLSTM,
    "mamba2": Mamba2,
    "transformer": Transformer,
}

OTHER_NAMES = {  # names in the lesson, in PyTorch and elsewhere, in lower case
    "char3model": "char3",
    "charloopmodel": "loop",
    "charloopconcatmodel": "concat",
    "charrnn": "rnn",
    "char-rnn": "rnn",
    "charseqrnn": "rnn",
    "charseqstatefulrnn": "rnn",
    "charseqstatefulrnn2": "rnn-scratch",
    "nn.rnn": "rnn",
    "charseqstatefulgru": "gru",
    "nn.gru": "gru",
    "charseqstatefullstm": "lstm",
    "nn.lstm": "lstm",
    "kneser-ney": "ngram",
    "nanogpt": "transformer",
    "mamba": "mamba2",
}


def find(name: str) -> type[CharModel]:
    """Return the class of an architecture.

    Args:
        name: a key of `MODELS`, a name of an installed package, or one that was given to `use`; of such a one, the file
            may have moved since.

    Raises:
        UsageError: there is no such architecture, whatever its case, or `name` is code that no user has named.
    """
    if (key := canonical(checked_text("model", name))) in MODELS:
        return MODELS[key]
    if name in (packages := installed()):
        MODELS[name] = import_installed(packages[name])
        return MODELS[name]
    if ":" in name:
        moved = [known for known in MODELS if ":" in known and known.rpartition(":")[2] == name.rpartition(":")[2]]
        if not moved:
            raise UsageError(f"model {name} is code outside the package, not imported by itself; give --model {name}")
        return MODELS[moved[-1]]
    hint = did_you_mean(name, MODELS)
    if (other := OTHER_NAMES.get(name.lower())) is not None:
        hint = f"; here it is called {other!r}"
    raise UsageError(f"no model {shown(name)}{hint}; `charlm models` lists them")


def canonical(name: str) -> str:
    """Return the key of `MODELS` that is equal to a name except for case, or else the name."""
    return name if name in MODELS or name.lower() not in MODELS else name.lower()


def use(name: str) -> None:
    """Import an architecture that a user names, such as "mine.py:MyRNN", and list it in `MODELS`.

    Args:
        name: see `import_class`; any other name is left alone.

    Raises:
        CharlmError: it cannot be imported.
    """
    if ":" in name:
        MODELS[name] = import_class(name)


def options_of(name: str) -> dict[str, Any]:
    """Return the constructor options of an architecture with their defaults."""
    options: dict[str, Any] = {}
    for cls in find(name).__mro__:  # **options are passed to the base class's constructor
        parameters = inspect.signature(cls).parameters.values()
        for parameter in parameters:
            if parameter.default is not parameter.empty:
                options.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return options


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return constructor options, each converted to its type.

    Raises:
        UsageError: the name or an option is unknown, or a value has the wrong type or range.
    """
    known, found = options_of(name), dict(options)
    for key, value in options.items():
        if key not in known:
            hint = did_you_mean(key, known) or f"; it has: {', '.join(known)}"
            raise UsageError(f"model {name} has no option {key!r}{hint}")
        default = known[key]
        if isinstance(default, tuple) and isinstance(value, list):  # TOML and JSON have no tuples
            found[key] = value = tuple(value)
        if (numbers := model_option_range(key, default)) is not None:
            found[key] = checked_number(key, value, numbers, f"model {name}: ")
        elif not isinstance(value, type(default)):
            raise UsageError(f"model {name}: {key} must be {type(default).__name__}, got {shown(value)}")
    return found


def build(name: str, vocab_size: int, /, **options: Any) -> CharModel:
    """Return a model with random weights, drawn from torch's global generator.

    Args:
        name: a key of `MODELS`.
        vocab_size: V.
        options: constructor options; the others keep their defaults.

    Raises:
        UsageError: the name or an option is unknown, or a value has the wrong type or range, or the weights do not fit
            into memory.
    """
    known, options = options_of(name), check_options(name, options)
    architecture = find(name)
    check_memory(architecture, vocab_size, options, known, machine_memory(), f"model {name}: ")
    model = architecture(vocab_size, **options)
    model.name, model.config = canonical(name), known | options
    return model
