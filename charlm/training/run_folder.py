"""The folder of a run: its name, its creation, and the lock while a process trains in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from charlm.errors import OutputError
from charlm.files import exclusive_lock, fsync_dir
from charlm.messages import say
from charlm.storage import runs
from charlm.training import distributed, launch


def choose_folder(name: str | None, model: str, folder: Path) -> tuple[Path, bool]:
    """Return the folder of a run, and whether it is to be resumed: if `torchrun` restarted this process.

    A run that had not been saved begins anew, see `run_folder`.

    Args:
        name: of the run; None takes that of the model, with a number, and creates the folder at once.
        model: name of the model.
        folder: folder of the runs.

    Raises:
        UsageError, OutputError: see `runs.named_run` and `runs.new_run`.
    """
    if (restored := launch.restored_run()) is not None:
        return Path(restored), Path(restored).is_dir()
    run = runs.new_run(model, folder) if name is None else runs.named_run(name, folder)
    launch.publish_run(str(run.absolute()))
    return run, False


@contextmanager
def run_folder(folder: Path | None, is_new: bool, resumes: bool) -> Iterator[bool]:
    """Create the folder of a new run, and hold its lock; rank 0 only.

    A training that was killed before its first save begins anew. A new folder is removed again if the training fails
    before anything was learned, so that its name stays free.

    Args:
        folder: None for none.
        is_new: the folder must be unused.
        resumes: continue from the last checkpoint, if there is one.

    Yields:
        whether there is a checkpoint to resume from.

    Raises:
        OutputError: it is used or cannot be created, or another process trains in it.
    """
    found = resumes and folder is not None and (folder / runs.LAST).is_file()
    if folder is None or not distributed.is_main_process():
        yield found
        return
    if is_new:
        runs.check_unused(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fsync_dir(folder.parent)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be created: {error.strerror}") from None
    with exclusive_lock(folder):
        if is_new:
            runs.check_unused(folder)
        if not found and runs.clear(folder, keep_start=not is_new):
            say(f"{folder}: was not saved before it ended; the training begins anew")
        try:
            yield found
        except (Exception, KeyboardInterrupt):
            if is_new and not runs.has_content(folder):
                shutil.rmtree(folder, ignore_errors=True)
            raise
