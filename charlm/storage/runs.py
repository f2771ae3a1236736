"""Runs: folders `checkpoints/<run>/` with recipe.toml, metrics.jsonl and checkpoints; the packaged model."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from charlm.errors import InputNotFoundError, OutputError, UsageError, did_you_mean, shown
from charlm.files import LOCK, OWNER, is_locked
from charlm.options.arguments import checked_path
from charlm.storage.run_log import METRICS, result_of

FOLDER = Path("checkpoints")
RECIPE, BEST, LAST = "recipe.toml", "best.safetensors", "last.safetensors"
HUB, HUB_CONFIG = "model.safetensors", "config.json"  # in a folder for model hubs
START = "start.safetensors"  # the model that a training began with, while its counts are needed
DIVERGED = "diverged"  # outcome of a training that ended worse than a uniform guess
MAX_NAME_BYTES = 255  # of a file system
_UNSAVED = re.compile(  # files that a training writes before its first save
    r"\.lock|\.owner\.json|\..*\.tmp|recipe\.toml|metrics\.jsonl|start\.safetensors|events\.out\.tfevents\..*"
)
_LATER = (BEST, LAST, "projector_config.pbtxt")  # files that it writes later


def packaged_model() -> Path:
    """Return the checkpoint of the packaged model: in the package, or in the repository that contains it."""
    inside = Path(__file__).parents[1] / "box" / "nietzsche.safetensors"
    return inside if inside.exists() else Path(__file__).parents[2] / "checkpoints" / "nietzsche.safetensors"


def all_runs(folder: Path = FOLDER) -> list[Path]:
    """Return the folders of all runs, the newest last."""
    found = [path.parent for path in folder.glob(f"*/{METRICS}")] if folder.is_dir() else []
    return sorted(found, key=lambda run: (run / METRICS).stat().st_mtime_ns)


def new_run(name: str, folder: Path = FOLDER) -> Path:
    """Create a folder for a run: the name, with the next number appended if it is taken.

    Raises:
        OutputError: it cannot be created.
    """
    for n in itertools.count(1):
        path = folder / (name if n == 1 else f"{name}-{n}")
        try:
            path.mkdir(parents=True)  # fails for all but one of several processes
            return path
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"{path}: cannot be created: {error.strerror}") from None
    raise AssertionError


def named_folder(name: str, folder: Path = FOLDER) -> Path:
    """Return the folder of a run or of a benchmark with a name.

    Raises:
        UsageError: the name is not that of one folder.
    """
    if name in (".", "..") or {"/", "\\"} & set(name) or not name.isprintable():
        raise UsageError(f"--name {shown(name)}: must be the name of one folder, without / and control characters")
    if not 1 <= len(os.fsencode(name)) <= MAX_NAME_BYTES:
        raise UsageError(f"--name {shown(name)}: must have from 1 to {MAX_NAME_BYTES} bytes")
    return folder / name


def named_run(name: str, folder: Path = FOLDER) -> Path:
    """Return the unused folder of a run with a name.

    Raises:
        UsageError: the name is not that of one folder.
        OutputError: the folder is used.
    """
    run = named_folder(name, folder)
    check_unused(run)
    return run


def check_unused(run: Path) -> None:
    """Check that a folder does not exist, or holds nothing but what a training wrote before its first save.

    Raises:
        OutputError: it holds anything else.
    """
    try:
        found = {path.name for path in run.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{run}: cannot be created: {error.strerror}") from None
    if any(not _UNSAVED.fullmatch(name) for name in found):
        raise OutputError(f"{run}: exists already; choose another --name, or remove it")


def clear(run: Path, keep_start: bool = False) -> bool:
    """Remove what a training wrote, except for the lock; return whether there was anything.

    Args:
        run: its folder.
        keep_start: keep `START`, too.
    """
    kept = {LOCK, OWNER} | ({START} if keep_start else set())
    written = [path for path in run.iterdir() if _UNSAVED.fullmatch(path.name) or path.name in _LATER]
    found = [path for path in written if path.name not in kept and path.is_file()]
    for path in found:
        path.unlink()
    return bool(found)


def has_content(run: Path) -> bool:
    """Return whether a run folder holds weights or measurements."""
    metrics = run / METRICS
    return any((run / name).is_file() for name in (BEST, LAST)) or (metrics.is_file() and metrics.stat().st_size > 0)


def find_run(name: str, folder: Path = FOLDER) -> Path:
    """Return the folder of a run, given its name or path.

    Raises:
        InputNotFoundError: there is no such run.
    """
    for path in (Path(name), folder / name):
        if any(_is_file(path / file) for file in (METRICS, RECIPE, LAST)):  # a log may be missing
            return path
    known = [run.name for run in all_runs(folder)]
    raise InputNotFoundError(f"no run {shown(name)} in {folder}{did_you_mean(name, known)}")


def unfinished_run(name: str, folder: Path = FOLDER) -> Path:
    """Return the folder of a run to resume; see `find_run`.

    Raises:
        InputNotFoundError: there is no such run.
        UsageError: it is finished.
    """
    run = find_run(name, folder)
    if is_finished(run):
        raise UsageError(f"{run}: is finished; there is nothing to resume")
    return run


def default_checkpoint(folder: Path = FOLDER) -> tuple[Path, str]:
    """Return the checkpoint that is taken where none is named, and its description, for messages.

    Raises:
        InputNotFoundError: there is none.
    """
    path = find_checkpoint(None, folder)
    newer = itertools.takewhile(lambda run: not _has_trained(run), reversed(all_runs(folder)))
    left_out = ""
    if (run := next(filter(_checkpoint, newer), None)) is not None:
        left_out = f"; {run} is newer, but {'diverged' if is_finished(run) else 'not finished'}"
    if path == packaged_model():
        return path, f"the built-in model nietzsche (no finished run in {folder}){left_out}"
    return path, f"{path}, of the newest finished run{left_out}"


def find_checkpoint(name: str | None = None, folder: Path = FOLDER) -> Path:
    """Return the checkpoint of a run, its best or else its last, or of a folder for model hubs.

    Args:
        name: a run, a folder, a file, or "nietzsche" for the packaged model; None for the newest finished run that
            did not diverge, else the packaged model.
        folder: folder of the runs.

    Raises:
        InputNotFoundError: there is no such run or file.
    """
    if name is not None and _is_file(checked_path("the name of a model", name)):
        return Path(name)
    if name is None:
        for run in reversed(all_runs(folder)):
            if _has_trained(run) and (file := _checkpoint(run)) is not None:
                return file
    elif (file := _checkpoint(Path(name)) or _checkpoint(folder / name)) is not None:
        return file
    if name in (None, "nietzsche") and packaged_model().is_file():
        return packaged_model()
    known = [run.name for run in all_runs(folder)] + ["nietzsche"]
    what = f"no run or checkpoint {shown(name)}{did_you_mean(name, known)}" if name else f"no run in {folder}"
    raise InputNotFoundError(f"{what}; see `charlm compare`")


def model_name(checkpoint: Path) -> str:
    """Return the name of a model: of its run or folder for model hubs, else of its file, without suffix."""
    path = Path(os.path.abspath(checkpoint))
    in_folder = path.name in (BEST, LAST) or (path.name == HUB and _is_file(path.with_name(HUB_CONFIG)))
    return path.parent.name if in_folder else path.stem


def _checkpoint(run: Path) -> Path | None:
    files = (run / BEST, run / LAST, run / HUB)
    return next((file for file in files if _is_file(file)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # e.g. the name is too long
        return False


def state_of(run: Path) -> str:
    """Return "training" while a process trains in a run's folder, else "finished" or "interrupted"."""
    if is_locked(run):
        return "training"
    return "finished" if is_finished(run) else "interrupted"


def is_finished(run: Path) -> bool:
    """Return whether a training has ended by itself, not by a signal."""
    return result_of(run).get("interrupted") is False


def _has_trained(run: Path) -> bool:
    """Return whether a training is finished and did not diverge."""
    return is_finished(run) and result_of(run).get("outcome") != DIVERGED
