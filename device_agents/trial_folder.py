"""The agent's folder on the device: trials, store, locks and token, and how to tell a trial's state from outside.

H/trials/<trial id>.<attempt>/{trial.json,trial.jsonl,lock,stderr.log} · H/store/<sha256> · H/code/<agent, unpacked>
· H/lock and H/token (claim.py). A trial's lock is a flock: the kernel frees it with the process, however it ends, and
waiting for it is idle. Folders 0700, files 0600. Names from outside are checked before they become paths (BadOrder).
"""
import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import time
from typing import Any, Dict, Iterator, List

from device_agents.journal import last_event
from device_agents.wire import LAST_KINDS, BranchBundle, Order, bundle_from_json, order_from_json

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,79}\.[0-9]{1,6}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_PLUGIN = re.compile(r"(adapters|engines|sensors|energy)/[A-Za-z_][0-9A-Za-z_]{0,79}\Z")
_PLUGINS_ARE = "must map adapters/name, engines/name, ... to a sha256"
SERVE_LOCK = "serve.lock"                       # below H; held beside H/lock by a `serve`
_STOP_PATIENCE_S = 5.0                          # for a trial to write its last line


class BadOrder(Exception):
    """The order, a name or a file of it is wrong. Exit code 2."""


class Busy(Exception):
    """Another trial has the device; the message names it. Exit code 4."""


def is_sha256(name: Any) -> bool:
    return isinstance(name, str) and _SHA256.match(name) is not None


class TrialFolder:
    """H and one trial in it. `name` is "<trial id>.<attempt>"."""

    def __init__(self, home: str, name: str) -> None:
        if not _NAME.match(name):
            raise BadOrder("%r is not a trial's name; expected <trial id>.<attempt>" % name)
        self.home, self.name = os.path.abspath(home), name
        self.path = os.path.join(self.home, "trials", name)
        self.store = os.path.join(self.home, "store")
        self.journal = os.path.join(self.path, "trial.jsonl")
        self.lock = os.path.join(self.path, "lock")
        self.stderr = os.path.join(self.path, "stderr.log")

    def read_order(self) -> Order:
        path = os.path.join(self.path, "trial.json")
        try:
            with open(path, encoding="utf-8") as file:
                order = order_from_json(json.load(file))
        except FileNotFoundError:
            raise BadOrder("no %s: push the trial first" % path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadOrder("%s is not an order: %s" % (path, error))
        _check(order, self.name, path)
        return order

    def state(self) -> str:
        """pending (no journal yet) | running | done | failed | crashed."""
        if is_locked(self.lock):
            return "running"
        if not os.path.exists(self.journal):
            return "pending" if not os.path.exists(self.lock) else "crashed"
        kind = last_event(self.journal).get("kind")
        return kind if kind in LAST_KINDS else "crashed"


def check_store(store: str, order: Order) -> None:
    """Every file that the order needs is in the store; BadOrder lists those that are not."""
    need(store, [order.trial.bundle])
    bundle = read_bundle(store, order.trial.bundle)
    wanted = [bundle.labels]
    if order.trial.engine != "replay":
        wanted += [bundle.samples] + [branch.artifact for branch in bundle.branches] + sorted(bundle.files.values())
    need(store, wanted + list(order.plugins.values()) + ([order.trial.learned] if order.trial.learned else []))


def prepare(home: str) -> str:
    """Make H and its folders; returns the absolute path."""
    home = os.path.abspath(home)
    for path in (home, os.path.join(home, "store"), os.path.join(home, "trials")):
        os.makedirs(path, mode=0o700, exist_ok=True)
    return home


def trials(home: str) -> List[Dict[str, Any]]:
    """Every trial of H that has begun, with its state, sorted by name. One that was only pushed is not there yet."""
    path = os.path.join(os.path.abspath(home), "trials")
    names = sorted(name for name in os.listdir(path) if _NAME.match(name)) if os.path.isdir(path) else []
    found = []
    for name in names:
        trial, _, attempt = name.rpartition(".")
        state = TrialFolder(home, name).state()
        if state != "pending":
            found.append({"id": trial, "attempt": int(attempt), "state": state})
    return found


def wait_for_end(folder: TrialFolder) -> None:
    """Block, idle, until nobody holds the trial's lock. Any number may wait."""
    try:
        file = os.open(folder.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def stop(folder: TrialFolder) -> bool:
    """End a running trial, or what this device serves for one of another device's: SIGTERM, and SIGKILL when that does
    not help. False when it does not run."""
    try:
        with open(os.path.join(folder.home, "lock"), encoding="utf-8") as file:
            owner = json.load(file)
    except (OSError, ValueError):
        return False
    lock = folder.lock if owner.get("purpose") is None else os.path.join(folder.home, SERVE_LOCK)
    if "%s.%s" % (owner.get("trial"), owner.get("attempt")) != folder.name or not is_locked(lock):
        return False
    for number, patience_s in ((signal.SIGTERM, _STOP_PATIENCE_S), (signal.SIGKILL, _STOP_PATIENCE_S)):
        try:
            os.kill(owner["pid"], number)
        except ProcessLookupError:
            return True
        give_up = time.monotonic() + patience_s
        while is_locked(lock):
            if time.monotonic() >= give_up:
                break
            time.sleep(0.01)
        else:
            return True
    return not is_locked(lock)


def is_locked(path: str) -> bool:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return True
    finally:
        os.close(file)


def read_bundle(store: str, digest: str) -> BranchBundle:
    """The manifest of that sha256; BadOrder when its content is not what its name says."""
    try:
        with open(os.path.join(store, digest), encoding="utf-8") as file:
            bundle = bundle_from_json(file.read())
    except (OSError, ValueError, TypeError) as error:
        raise BadOrder("bundle %s: %s" % (digest, error))
    if bundle.id != digest:
        raise BadOrder("bundle %s is damaged in the store (its content hashes to %s); push it again"
                       % (digest[:12], bundle.id[:12]))
    return bundle


def stage_plugins(folder: TrialFolder, order: Order) -> List[str]:
    """Give the order's plug-ins their names again, in the trial's folder; returns the plug-in folders for registry."""
    root = os.path.join(folder.path, "plugins")
    _stage(root, folder.store, order.plugins)
    return [root] if order.plugins else []


@contextlib.contextmanager
def staged_plugins(home: str, plugins: Dict[str, str]) -> Iterator[List[str]]:
    """The same for a verb that runs no trial: there while the block lasts, below H/code, where gc finds what a kill has
    left. Raises BadOrder for names that are none and for files that were not pushed."""
    if not are_plugins(plugins):
        raise BadOrder("plugins %s" % _PLUGINS_ARE)
    store, code = os.path.join(home, "store"), os.path.join(home, "code")
    need(store, list(plugins.values()))
    if not plugins:
        yield []
        return
    import tempfile
    os.makedirs(code, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="plugins-", dir=code) as made:
        root = os.path.join(made, "plugins")    # what ending.py knows a user's file by
        _stage(root, store, plugins)
        yield [root]


def are_plugins(plugins: Any) -> bool:
    return isinstance(plugins, dict) and all(_PLUGIN.match(key) and is_sha256(plugins[key]) for key in plugins)


def _stage(root: str, store: str, plugins: Dict[str, str]) -> None:
    for name, digest in sorted(plugins.items()):
        path = os.path.join(root, name + ".py")
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(os.path.join(store, digest), "rb") as source, open(path, "wb") as target:
            target.write(source.read())


def _check(order: Order, name: str, path: str) -> None:
    trial = order.trial
    problems = [
        (name != "%s.%s" % (trial.id, order.attempt), "it belongs to %s.%s" % (trial.id, order.attempt)),
        (not isinstance(order.token, int), "token must be a whole number"),
        (not _positive(trial.duration_s), "duration_s must be positive"),
        (not _positive(trial.sample_hz), "sample_hz must be positive"),
        (not _positive(trial.slowdown) or trial.slowdown < 1, "slowdown must be at least 1"),
        (not isinstance(trial.warmup_s, (int, float)) or trial.warmup_s < 0, "warmup_s must be 0 or more"),
        (trial.late not in ("drop", "serve"), "late must be drop or serve"),
        (not is_sha256(trial.bundle), "bundle must be a sha256"),
        (trial.learned is not None and not is_sha256(trial.learned), "learned must be a sha256"),
        (not are_plugins(order.plugins), "plugins %s" % _PLUGINS_ARE),
    ]
    for wrong, text in problems:
        if wrong:
            raise BadOrder("%s: %s" % (path, text))


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0


def need(store: str, digests: List[str]) -> None:
    """All of them are in the store, and used now; BadOrder lists those that are not."""
    lacking = []
    for digest in sorted(set(digests)):
        try:
            os.utime(os.path.join(store, digest))               # used now: gc takes what was unused for longest
        except OSError:
            lacking.append(digest)
    if lacking:
        raise BadOrder("the store lacks %d file(s): %s; push them first" % (len(lacking), ", ".join(lacking)))
