"""The far end of `edgefleet device provision`: pushed files -> a private runtime. Runs ON THE DEVICE, as `python -c`.

Words: HOME NAME KIND SHA256..., the files being HOME/store/SHA256. Standard library, Python >= 3.6, one file. `wheels`
are unpacked into an environment of this Python's; a `bundle` was unpacked by the shell, and this is its own Python.
All of it happens in HOME/runtime/NAME.part; only what was read again, hashed and started gets its name and becomes
`current`. Exit 0 (JSON on stdout) | 4 busy | 28 no room | 73 cannot write | 74 damaged on the way | 75 does not start.
"""
import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

BUSY, NO_ROOM, CANNOT_WRITE, DAMAGED, NO_START = 4, 28, 73, 74, 75
TRY = "import numpy, onnxruntime; print(onnxruntime.__version__, numpy.__version__)"
TRY_S = 300                                     # the first import compiles, which a small board takes long for
TYPE_CHECKING = False
if TYPE_CHECKING:                               # a Python 3.6 must be able to read this
    Words = list[str]
    Files = list[Path]


class FailedError(Exception):
    """(exit code, words)"""


def main(words: "Words") -> None:
    os.umask(0o077)
    home, name, kind = Path(words[0]).expanduser(), words[1], words[2]
    files = [home / "store" / digest for digest in words[3:]]
    folder = home / "runtime" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("a") as lock:     # the agent's own, held while a trial runs
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FailedError(BUSY, "a trial runs on it; wait for its end and type the same command again") from None
        if not folder.is_dir():
            install(folder, kind, files)
        found = versions(folder)
        point_to(folder)
    for path in files:                          # the store need not keep what was unpacked
        if path.exists():
            path.unlink()
    sys.stdout.write(json.dumps({"onnxruntime": found[0], "numpy": found[1]}) + "\n")


def install(folder: Path, kind: str, files: "Files") -> None:
    """Nothing torn stays behind, whatever happens."""
    part = folder.with_name(folder.name + ".part")
    try:
        for path in files:
            check(path)
        if kind == "wheels":
            make_environment(part, files)
        versions(part)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(str(part), ignore_errors=True)
        raise


def check(path: Path) -> None:
    """The file is what its name says; a damaged one goes, so that it is pushed again."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    if digest.hexdigest() != path.name:
        path.unlink()
        raise FailedError(DAMAGED, "a pushed file arrived damaged; type the same command again")


def make_environment(part: Path, wheels: "Files") -> None:
    """What `python -m venv` makes, of which some Pythons lack the half, and the wheels in it."""
    shutil.rmtree(str(part), ignore_errors=True)
    base = Path(sys.executable).resolve()
    python = "python{}.{}".format(*sys.version_info[:2])
    site = part / "lib" / python / "site-packages"
    site.mkdir(parents=True)
    (part / "bin").mkdir()
    (part / "bin" / "python3").symlink_to(base)
    (part / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    for path in wheels:
        with zipfile.ZipFile(str(path)) as wheel:
            wheel.extractall(str(site))
    for data in list(site.glob("*.data")):      # a wheel's scripts and headers are not needed
        for child in [*data.glob("purelib/*"), *data.glob("platlib/*")]:
            child.rename(site / child.name)


def versions(folder: Path) -> "Words":
    """Start it: [onnxruntime's version, numpy's]."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    try:
        done = subprocess.run([str(folder / "bin" / "python3"), "-I", "-c", TRY], stdin=subprocess.DEVNULL,  # noqa: UP022
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=TRY_S, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise FailedError(NO_START, f"onnxruntime was not imported within {TRY_S} s") from None
    found = done.stdout.decode("utf-8", "replace").split()
    if done.returncode or len(found) != 2:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        words = said[-1] if said else f"exit status {done.returncode}"
        raise FailedError(NO_START, f"onnxruntime cannot be imported there: {words}")
    return found


def point_to(folder: Path) -> None:
    """`current` changes in one step; then what it pointed to before goes."""
    part = folder.with_name("current.part")
    if part.is_symlink():
        part.unlink()
    part.symlink_to(folder.name)
    part.replace(folder.with_name("current"))
    for other in list(folder.parent.iterdir()):
        if other.name not in ("current", folder.name):
            shutil.rmtree(str(other), ignore_errors=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except FailedError as error:
        sys.stderr.write(f"{error.args[1]}\n")
        sys.exit(error.args[0])
    except (OSError, zipfile.BadZipFile) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        sys.stderr.write("{}{}\n".format(error, "; free some space there" if full else ""))
        sys.exit(NO_ROOM if full else CANNOT_WRITE)
