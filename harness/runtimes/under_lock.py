"""Is the device free, and what only a free device allows. Runs ON THE DEVICE, as `python -c`, like install.py.

Words: HOME check | HOME remove. Standard library, Python >= 3.6, one file. Takes the agent's own lock, which a trial
holds while it runs, and removes HOME/runtime under it; the Python that runs this may lie there itself. Exit 0 |
4 busy | 73 cannot write.
"""
import fcntl
import shutil
import sys
from pathlib import Path

BUSY, CANNOT_WRITE = 4, 73


def main(home: Path, verb: str) -> int:
    if not home.is_dir():
        return 0
    with (home / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.stderr.write("a trial runs on it; wait for its end and type the same command again\n")
            return BUSY
        if verb == "remove" and (home / "runtime").exists():
            shutil.rmtree(str(home / "runtime"))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]).expanduser(), sys.argv[2]))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(CANNOT_WRITE)
