"""Run every benchmark and write their output to one Markdown file.

    python benchmarks/all.py results.md

About half an hour on two idle cores.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COMMANDS = [
    "training.py",
    "overhead.py",
    "threads.py",
    "quick.py",
    "sampling.py",
    "growth.py speed.png",
    "cost.py --corpus human-numbers:2500",
    "ngram.py --mb 20",
    "bigtext.py --gb 1 --steps 20 --chars 20000",
]


def main(path: Path) -> None:
    """Run all commands; a failure is reported at its place in the file."""
    with path.open("w", encoding="utf-8") as file:
        for command in COMMANDS:
            print(command, file=sys.stderr, flush=True)
            line = [sys.executable, str(Path(__file__).parent / command.split()[0]), *command.split()[1:]]
            done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
            failed = f"\nended with exit code {done.returncode}" if done.returncode else ""
            file.write(f"## `python benchmarks/{command}`\n\n```\n{done.stdout.rstrip()}{failed}\n```\n\n")
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results.md"))
