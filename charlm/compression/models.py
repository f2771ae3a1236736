"""Models for compression: a checkpoint, identified by the SHA-256 of its file, or byte counts that start empty."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from charlm.compression.file_format import NO_MODEL, Header
from charlm.compression.predictors import AdaptivePredictor, ModelPredictor, Predictor
from charlm.errors import InputNotFoundError, UsageError
from charlm.generation.generator import TextGenerator
from charlm.generation.numpy_generator import load_numpy
from charlm.ngrams.adaptive import AdaptiveNGram
from charlm.storage import runs

N_CONTEXT = 6  # bytes, longest context of the byte counts and shortest match; part of the format


@dataclass(frozen=True, eq=False)
class CodingModel:
    """A model for compression.

    Attributes:
        sha256: of its file, or `NO_MODEL`.
        name: for messages.
        predictor: function from the number of lanes to a predictor in its initial state.
        dynamic: characters between two updates of counts; 0 for a static model.
    """

    sha256: str
    name: str
    predictor: Callable[[int], Predictor]
    dynamic: int = 0


def load_model(path: Path, dynamic: int = 0) -> CodingModel:
    """Return the model of a checkpoint; the file is read when a predictor is made.

    Args:
        path: of the file.
        dynamic: characters between two updates of counts; 0 for a static model.

    Raises:
        InputNotFoundError: the file does not exist or cannot be opened.
    """
    make = partial(_dynamic_predictor, path, dynamic) if dynamic else partial(_model_predictor, path)
    return CodingModel(sha256_of(path), str(path), make, dynamic)


def adaptive_model() -> CodingModel:
    """Return byte counts that start empty."""
    return CodingModel(NO_MODEL, "counts of the file itself", _adaptive_predictor)


def _adaptive_predictor(n_lanes: int) -> Predictor:
    return AdaptivePredictor(n_lanes, AdaptiveNGram(N_CONTEXT))


def _dynamic_predictor(path: Path, interval: int, n_lanes: int) -> Predictor:
    """Return a predictor whose counts are updated as it reads.

    Raises:
        CheckpointError: the file is not a valid checkpoint.
        UsageError: more than one lane, or a model with weights.
    """
    from charlm.compression.dynamic import DynamicPredictor
    from charlm.generation.language_model import LanguageModel

    if n_lanes > 1:
        raise UsageError("--dynamic reads one text; leave out --blocks")
    return DynamicPredictor(LanguageModel.load(path), interval)


def _model_predictor(path: Path, n_lanes: int) -> Predictor:
    """Return a predictor in its initial state.

    Raises:
        CheckpointError: the file is not a valid checkpoint.
    """
    generator: TextGenerator | None = load_numpy(path, n_lanes)
    if generator is None:
        from charlm.generation.language_model import LanguageModel

        generator = LanguageModel.load(path)
    stepper = generator.stepper(n_lanes if n_lanes > 1 else None)
    metadata = generator.metadata
    return ModelPredictor(stepper, metadata.vocab, n_lanes, metadata.n_context, metadata.is_lower)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        InputNotFoundError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read: {error.strerror}") from None


def find_model(sha256: str, folder: Path = runs.FOLDER) -> Path:
    """Return the checkpoint with a SHA-256: of a run, the newest first, or the packaged model.

    Args:
        sha256: of the file.
        folder: folder of the runs.

    Raises:
        InputNotFoundError: there is none.
    """
    for path in _checkpoints(folder):
        if path.is_file() and sha256_of(path) == sha256:
            return path
    raise InputNotFoundError(
        f"no run in {folder} has the model with SHA-256 {sha256}, which is needed; name it with --model RUN"
    )


def _checkpoints(folder: Path) -> Iterator[Path]:
    for run in reversed(runs.all_runs(folder)):
        yield from (run / runs.BEST, run / runs.LAST)
    yield from sorted(folder.glob("*.safetensors"))
    yield runs.packaged_model()


def model_for(header: Header, name: str | None = None, folder: Path = runs.FOLDER) -> CodingModel:
    """Return the model that a compressed file needs.

    Args:
        header: of the file.
        name: run or checkpoint; None searches for it.
        folder: folder of the runs.

    Raises:
        InputNotFoundError: the model was not found.
        UsageError: the named model has another SHA-256, or the file needs no model.
    """
    if header.model == NO_MODEL:
        if name not in (None, NO_MODEL):
            raise UsageError("the file was compressed without a model; leave out --model")
        return adaptive_model()
    if name is None:
        return load_model(find_model(header.model, folder), header.dynamic)
    path = runs.find_checkpoint(name, folder)
    if (sha256 := sha256_of(path)) != header.model:
        raise UsageError(f"{path}: has SHA-256 {sha256}, but the model with {header.model} is needed")
    return load_model(path, header.dynamic)
