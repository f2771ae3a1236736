"""Large texts: speed of encoding, time to the first step, memory of training.

    python benchmarks/bigtext.py --gb 1

Speed: encoding against `cat` and against Python's own reading and decoding, in alternation, with the file in the page
cache as far as it fits. Memory: private memory of the process (RssAnon of /proc, sampled 50 times a second) minus that
of `import torch`. The resident size (VmHWM), printed with it, also includes pages of the mapped file, which the kernel
can reclaim. The process encodes, trains some steps with each feed, and evaluates some characters of the validation
part, in one lane and in 32. Linux only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

READ_SIZE = 1 << 20  # characters per read
LINE = "{:012d} the quick brown fox jumps over the lazy dog, again and again; {}\n"


def generate(path: Path, n_bytes: int) -> None:
    """Write a text of lines that differ slightly."""
    block = "".join(LINE.format(i * 7919, "abcdefghijklmnop"[i % 16] * (i % 40)) for i in range(20_000)).encode()
    with path.open("wb") as file:
        for at in range(0, n_bytes, len(block)):
            file.write(block[: n_bytes - at])


def cat(path: Path) -> None:
    with open(os.devnull, "wb") as nowhere:
        subprocess.run(["cat", path], check=True, stdout=nowhere)


def decode(path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        while file.read(READ_SIZE):
            pass


def encode(path: Path) -> None:
    from charlm.api import read_corpus
    from charlm.recipe import Recipe

    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)
    read_corpus(Recipe().replace(corpus=[str(path)]))


def speeds(path: Path, n_rounds: int) -> None:
    """Print the table of speeds."""
    seconds: dict[str, list[float]] = {"cat": [], "decode": [], "encode": []}
    encode_on_core = []
    for _ in range(n_rounds):
        for what, times in zip((cat, decode, encode), seconds.values(), strict=True):
            began, began_on_core = time.perf_counter(), time.process_time()
            what(path)
            times.append(time.perf_counter() - began)
        encode_on_core.append(time.process_time() - began_on_core)
    mb = path.stat().st_size / 1e6
    for name, times in seconds.items():
        ratio = statistics.median(e / t for e, t in zip(times, seconds["encode"], strict=True))
        low, high = mb / max(times), mb / min(times)
        print(
            f"{name:8}{mb / statistics.median(times):8,.0f} MB/s ({low:,.0f} to {high:,.0f}); encode / it: {ratio:.3f}"
        )
    print(f"encode, by seconds on a core: {mb / statistics.median(encode_on_core):,.0f} MB/s")


def run_measured(arguments: list[str]) -> tuple[float, float, str]:
    """Run Python; return peak private memory, MB, peak resident memory, MB, and standard output."""
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    peak = {"RssAnon": 0, "VmHWM": 0}
    while child.poll() is None:
        try:
            for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in peak:
                    peak[name] = max(peak[name], int(rest.split()[0]))
        except OSError:
            break
        time.sleep(0.02)
    out, _ = child.communicate()
    if child.returncode:
        sys.exit(child.returncode)
    return peak["RssAnon"] / 1024, peak["VmHWM"] / 1024, out


def train(path: str, n_steps: int, n_chars: int) -> None:
    """Encode, train and evaluate; print the time of the first step."""
    from charlm.api import read_corpus
    from charlm.evaluation.protocol import TextRange, evaluate
    from charlm.recipe import Recipe
    from charlm.training.loop import Callback, TrainState, fit
    from charlm.training.trainer import Trainer

    class Stop(Callback):
        def on_batch_end(self, state: TrainState) -> None:
            if state.step == 1:
                print(time.time(), flush=True)
            state.stop = state.step >= n_steps

    for choice in ({"model": "gru"}, {"model": "gru", "feed": "chunks"}, {"model": "rnn", "feed": "windows"}):
        recipe = Recipe().replace(corpus=[path], epochs=1, device="cpu", **choice)
        trainer = Trainer.make(recipe, read_corpus(recipe))
        fit(trainer.state, [Stop()])
        first, _ = trainer.corpus.bounds["valid"]
        n_context = recipe.n_context if recipe.feed == "windows" else None
        for n_lanes in (1, 32):
            evaluate(trainer.state.model, TextRange(trainer.ids, first, first + n_chars), n_context, n_lanes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1.0, help="size of the text, 10^9 bytes")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of the speed measurement")
    parser.add_argument("--steps", type=int, default=50, help="training steps with each feed")
    parser.add_argument("--chars", type=int, default=50_000, help="characters to evaluate")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="folder with space for twice the text")
    parser.add_argument("--train", help=argparse.SUPPRESS)  # for the subprocess
    given = parser.parse_args()
    if given.train:
        train(given.train, given.steps, given.chars)
        sys.exit()

    n_bytes = int(given.gb * 1e9)
    if shutil.disk_usage(given.folder).free < 2.1 * n_bytes:
        sys.exit(f"{given.folder} has no space for twice {given.gb} GB; use a smaller --gb or another --folder")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        text = Path(folder) / "text.txt"
        generate(text, n_bytes)
        print(f"{n_bytes:,} bytes of ASCII", flush=True)
        speeds(text, given.rounds)
        shutil.rmtree(f"{folder}/cache")
        torch_private, torch_resident, _ = run_measured(["-c", "import torch"])
        print(f"import torch: {torch_private:.0f} MB private, {torch_resident:.0f} MB resident", flush=True)
        for run in ("first run", "cached"):
            began = time.time()
            private, resident, out = run_measured(
                [__file__, "--train", str(text), "--steps", str(given.steps), "--chars", str(given.chars)]
            )
            print(
                f"{run}: first step after {float(out.split()[0]) - began:.1f} s; beyond import torch "
                f"{private - torch_private:.0f} MB private, {resident - torch_resident:.0f} MB with mapped pages",
                flush=True,
            )
