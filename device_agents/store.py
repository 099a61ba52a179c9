"""The verbs around the store and the collected trials: missing, collect, clean, gc.

The store's files are named by their sha256, so presence is identity; `missing --verify` reads them again. What a trial
uses is touched, so that gc takes what nobody used for longest. It refuses names that are not sha256.
"""
import gzip
import hashlib
import os
import shutil
import time
from typing import Any, BinaryIO, Dict, List, Optional

import device_agents
from device_agents.trial_folder import BadOrder, Busy, TrialFolder, is_sha256

_CHUNK_B = 1 << 20
_LEFT_BEHIND_S = 3600                           # a push in progress touches its folder with each file
_GZIP_LEVEL = 1                                 # the device pays; the journal shrinks tenfold all the same


def missing(store: str, digests: Any, verify: bool) -> List[str]:
    """Those of `digests` that the store lacks; with `verify` also those whose content is another, which are deleted."""
    if not isinstance(digests, list) or not all(is_sha256(digest) for digest in digests):
        raise BadOrder("standard input must be a JSON list of sha256")
    lacking = []
    for digest in digests:
        path = os.path.join(store, digest)
        there = os.path.isfile(path)
        if there and verify and sha256_of_file(path) != digest:
            os.unlink(path)
            there = False
        if not there:
            lacking.append(digest)
    return lacking


def collect_gc(store: str, max_age_days: Optional[float], max_mb: Optional[float]) -> Dict[str, Any]:
    """Delete files unused for `max_age_days`, then the ones unused for longest until `max_mb` is kept.

    And the folders of pushes that ended with the device: nobody will come back to them.
    """
    entries = []
    for entry in os.scandir(store):
        try:
            stat = entry.stat(follow_symlinks=False)
        except FileNotFoundError:               # a push that has just ended
            continue
        if entry.is_file(follow_symlinks=False):
            entries.append((stat.st_mtime, stat.st_size, entry.path))
        elif entry.name.endswith(".part") and stat.st_mtime < time.time() - _LEFT_BEHIND_S:
            shutil.rmtree(entry.path, ignore_errors=True)
    entries.sort()
    kept_b = sum(size_b for _, size_b, _ in entries)
    oldest = None if max_age_days is None else time.time() - max_age_days * 86400
    removed = []
    for used, size_b, path in entries:
        too_old = oldest is not None and used < oldest
        too_much = max_mb is not None and kept_b > max_mb * 2 ** 20
        if too_old or too_much:
            os.unlink(path)
            kept_b -= size_b
            removed.append(os.path.basename(path))
    return {"removed": removed, "kept_mb": round(kept_b / 2.0 ** 20, 3)}


def remove_old_code(home: str) -> None:
    """Delete what other versions of the agent have unpacked below H."""
    present = os.path.dirname(os.path.abspath(device_agents.__path__[0]))
    folder = os.path.join(home, "code")
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if os.path.join(folder, name) != present:
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def clean(folders: List[TrialFolder]) -> List[str]:
    """Remove trial folders; Busy, and nothing is removed, when one of them runs. Returns the names that were there."""
    for folder in folders:
        if folder.state() == "running":
            raise Busy("trial %s is running" % folder.name)
    there = [folder for folder in folders if os.path.isdir(folder.path)]
    for folder in there:
        shutil.rmtree(folder.path)
    return [folder.name for folder in there]


def describe(folder: TrialFolder) -> Dict[str, Any]:
    """{"state", "bytes", "sha256"}: the last two of the journal, uncompressed; 0 and None when there is none."""
    state = folder.state()
    if not os.path.exists(folder.journal):
        return {"state": state, "bytes": 0, "sha256": None}
    return {"state": state, "bytes": os.path.getsize(folder.journal), "sha256": sha256_of_file(folder.journal)}


def send_journal(folder: TrialFolder, output: BinaryIO) -> None:
    """The journal as one gzip member, the same bytes each time. BadOrder when there is none."""
    try:
        source = open(folder.journal, "rb")     # noqa: SIM115
    except OSError as error:
        raise BadOrder("trial %s has no journal: %s" % (folder.name, error))
    with source, gzip.GzipFile("", "wb", _GZIP_LEVEL, output, mtime=0) as target:
        shutil.copyfileobj(source, target, _CHUNK_B)


def sha256_of_file(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK_B), b""):
            digest.update(chunk)
    return digest.hexdigest()
