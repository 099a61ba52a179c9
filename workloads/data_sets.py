"""Data sets on this machine: which tasks have theirs, and fetching the official archives. Standard library only.

Called by `edgefleet data check` and `edgefleet data fetch`. An archive is checked against its published md5 before it
is opened, unpacked without following it outside its folder, and put in place in one step; what is there stays.
"""
import os
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from hashlib import md5
from pathlib import Path
from typing import NamedTuple

from device_agents import registry
from device_agents.seams import UserError
from workloads.data_folder import VARIABLE
from workloads.recipe import load_task
from workloads.seams import Progress, Report

CHUNK_B = 1 << 18
DEADLINE_S = 30.0                               # without a byte


class Found(NamedTuple):
    """`checksum` is "" and `problem` says why when a task's data are not there."""

    task: str
    checksum: str
    problem: str
    fetchable: bool


class Fetched(NamedTuple):
    """`fresh` = it was downloaded now; otherwise the folder was there and was left as it was."""

    folder: Path
    fresh: bool


def check_data(names: Sequence[str] = (), plugin_dirs: Sequence[str] = ()) -> list[Found]:
    """One entry a task, by name; all tasks when none is named. Raises UserError for an unknown name."""
    found = []
    for name in names or registry.names("workloads.tasks", plugin_dirs):
        task = load_task(name, plugin_dirs)
        try:
            found.append(Found(name, task.checksum(), "", task.archive is not None))
        except UserError as error:
            found.append(Found(name, "", str(error), task.archive is not None))
    return found


def fetch_data(name: str, report: Report, plugin_dirs: Sequence[str] = ()) -> Fetched:
    """Download a task's official archive to $EDGEFLEET_DATA, unless its folder is there.

    Raises UserError: no official archive, no $EDGEFLEET_DATA, a folder that lacks files, no network, a wrong md5, a
    full disk.
    """
    task = load_task(name, plugin_dirs)
    if task.archive is None:
        raise UserError(f"task {name} has no official archive to fetch; "
                        f"{_problem(name, plugin_dirs) or 'its data are there'}")
    root = os.environ.get(VARIABLE)
    if not root:
        raise UserError(f"set {VARIABLE} to the folder in which data sets shall lie")
    address, digest, folder = task.archive
    target = Path(root).expanduser() / folder
    if target.is_dir():
        if problem := _problem(name, plugin_dirs):
            raise UserError(f"{problem}: move {target} away, then fetch again")
        return Fetched(target, fresh=False)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=target.parent) as part:
            archive = Path(part) / "archive"
            _download(address, archive, digest, report)
            with tarfile.open(archive) as tar:
                tar.extractall(part, filter="data")
            if not (Path(part) / folder).is_dir():
                raise UserError(f"{address} holds no folder {folder}; it is not the known archive")
            shutil.move(Path(part) / folder, target)
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"cannot fetch {address} to {target}: {error}") from None
    return Fetched(target, fresh=True)


def _download(address: str, target: Path, digest: str, report: Report) -> None:
    began, done, hashed = time.monotonic(), 0, md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(address, timeout=DEADLINE_S) as answer, target.open("wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(CHUNK_B):
                file.write(chunk)
                hashed.update(chunk)
                done += len(chunk)
                per_s = done / max(1e-9, time.monotonic() - began)
                report(Progress("fetch", done, max(done, total), per_s,
                                (total - done) / per_s if total else None))
    except (urllib.error.URLError, ValueError) as error:
        raise UserError(f"cannot fetch {address}: {getattr(error, 'reason', error)}; download it elsewhere and unpack "
                        f"it under ${VARIABLE}") from None
    if hashed.hexdigest() != digest:
        raise UserError(f"{address} gave a file whose md5 is {hashed.hexdigest()}, not the published {digest}; "
                        "try again, or fetch it elsewhere")


def _problem(name: str, plugin_dirs: Sequence[str]) -> str:
    return check_data([name], plugin_dirs)[0].problem
