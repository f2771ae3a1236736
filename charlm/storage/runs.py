"""Where runs and checkpoints lie: `checkpoints/<run>/`, and the model in the box."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from charlm.errors import InputNotFoundError, did_you_mean

FOLDER = Path("checkpoints")
METRICS = "metrics.jsonl"


def boxed() -> Path:
    """Return the model that comes with the package: installed inside it, or in the repository beside it."""
    inside = Path(__file__).parents[1] / "box" / "nietzsche.safetensors"
    return inside if inside.exists() else Path(__file__).parents[2] / "checkpoints" / "nietzsche.safetensors"


def all_runs(folder: Path = FOLDER) -> list[Path]:
    """Return the folders of all runs, the newest last."""
    found = [path.parent for path in folder.glob(f"*/{METRICS}")] if folder.is_dir() else []
    return sorted(found, key=lambda run: (run / METRICS).stat().st_mtime_ns)


def new_run(name: str, folder: Path = FOLDER) -> Path:
    """Return a folder for a new run: the name, with a number after it where it is taken."""
    path, n = folder / name, 1
    while path.exists():
        n += 1
        path = folder / f"{name}-{n}"
    return path


def find_run(name: str, folder: Path = FOLDER) -> Path:
    """Return the folder of a run given by name or path.

    Raises:
        InputNotFoundError: there is none.
    """
    for path in (Path(name), folder / name):
        if (path / METRICS).is_file():
            return path
    known = [run.name for run in all_runs(folder)]
    raise InputNotFoundError(f"no run {name!r} in {folder}{did_you_mean(name, known)}")


def find_checkpoint(name: str | None = None, folder: Path = FOLDER) -> Path:
    """Return the checkpoint file of a run (its best, else its last), or the file itself.

    Args:
        name: a run, a file, or "nietzsche" for the model in the box; None takes the newest run, else the box.
        folder: where the runs are.

    Raises:
        InputNotFoundError: there is none.
    """
    if name is not None and Path(name).is_file():
        return Path(name)
    if name is None:
        for run in reversed(all_runs(folder)):
            if (file := _weights(run)) is not None:
                return file
    elif (file := _weights(Path(name)) or _weights(folder / name)) is not None:
        return file
    if name in (None, "nietzsche") and boxed().is_file():
        return boxed()
    known = [run.name for run in all_runs(folder)] + ["nietzsche"]
    raise InputNotFoundError(
        f"no run or checkpoint {name or 'here'!r}{did_you_mean(name or '', known)}; `charlm compare` lists the runs"
    )


def _weights(run: Path) -> Path | None:
    files = (run / "best.safetensors", run / "last.safetensors")
    return next((file for file in files if file.is_file()), None)


def result_of(run: Path) -> dict[str, Any]:
    """Return what a run's metrics.jsonl says of its end; what its last line of training says, if it has no end.

    A last line that was cut off is passed over.
    """
    result: dict[str, Any] = {}
    for line in (run / METRICS).read_text("utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        result |= row.get("result", {key: row[key] for key in ("n_chars", "seconds", "valid_nats") if key in row})
    return result
