"""Small models for compression."""

import torch

from charlm.data.vocab import Vocab
from charlm.generation.language_model import LanguageModel
from charlm.models import build, options_of
from charlm.storage.checkpoint import Metadata

SIZES = {"n_embed": 8, "n_hidden": 12, "n_layers": 1, "head_size": 4, "window_size": 16}
TEXT = "Supposing that Truth is a woman, what then?\nIs there not ground for suspecting that all philosophers, "


def write_model(folder, name="gru", is_bytes=False, lower=False, n_context=None, **options):
    """Write a checkpoint with random weights, or with counts of `TEXT`, and return its path."""
    torch.manual_seed(1)
    vocab = Vocab.of_bytes() if is_bytes else Vocab(map(ord, sorted(set(TEXT.lower() if lower else TEXT))))
    sizes = {
        key: size for key, size in {"n_embed": 8, "n_hidden": 12, "head_size": 4}.items() if key in options_of(name)
    }
    model = build(name, len(vocab), **sizes | options).eval()
    if "ngram" in name:
        model.fit_counts(torch.from_numpy(vocab.encode(TEXT * 3)), torch.from_numpy(vocab.char_classes))
    recipe = {"lower": lower}
    metadata = Metadata(
        name, model.config, len(vocab), vocab.codepoints.tolist(), is_bytes, n_context or model.n_context, recipe=recipe
    )
    path = folder / f"{name}{is_bytes:d}{lower:d}{n_context}.safetensors"
    LanguageModel(model, metadata).save(path)
    return path
