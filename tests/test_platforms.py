"""Platforms: the package imports and trains where `fcntl` and SIGUSR1 do not exist, as on Windows."""

import os
import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, signal, sys

sys.modules["fcntl"] = None  # importing it fails
del signal.SIGUSR1
import torch
import charlm

torch.set_num_threads(1)
for module in pkgutil.walk_packages(charlm.__path__, "charlm."):
    if module.name != "charlm.__main__":
        importlib.import_module(module.name)
options = {"n_embed": 4, "n_hidden": 8}
model = charlm.train("human-numbers:100", folder="run", model="gru", options=options, epochs=1, batch_size=4, bptt=8)
assert model.metadata.result["interrupted"] is False

from pathlib import Path
from charlm.data import ByteStream, make_corpus

Path("text.txt").write_text("a text that is encoded into a file " * 10)
assert make_corpus(ByteStream([Path("text.txt")]), "text", mmap_threshold=0).ids.all()
print(charlm.load("run").sample(length=20, seed=0))
"""


def test_the_package_imports_and_trains_without_fcntl_and_sigusr1(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    line = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) >= 20
    assert (tmp_path / "run" / "best.safetensors").is_file()
