"""Who has the device: H/lock, held by the one trial (or profile, or gc) that runs, and the trial's own lock beside it.

Taken by launch.py before `run` answers, and held by the trial's process until it ends, however it ends. Both are
flocks; they travel over fork and over the warm parent's socket as descriptors. H/lock says in words who took it. It
refuses (BadOrder) an order with an older token than the device has seen, and a trial that ran before.
"""
import contextlib
import errno
import fcntl
import json
import os
import time
from typing import Any, Dict, Iterator

from device_agents.trial_folder import SERVE_LOCK, BadOrder, Busy, TrialFolder
from device_agents.wire import Order, Serving

_PATIENCE_S = 1.0                               # for a reader that looks whether a lock is held, and lets go at once


class Claim:
    """The locks of the one trial that runs: H/lock and the trial's own. Held until the process that has them ends."""

    def __init__(self, device: int, trial: int) -> None:
        self.device, self.trial = device, trial

    def sign(self, order: Order, boot_id: str) -> None:
        """Write who holds the device into H/lock; done by the process that will run the trial."""
        _sign(self.device, {"trial": order.trial.id, "attempt": order.attempt, "token": order.token,
                            "pid": os.getpid(), "boot_id": boot_id})

    def release(self) -> None:
        os.close(self.trial)
        os.close(self.device)


def take(folder: TrialFolder, order: Order) -> Claim:
    """Take the device for this trial. Raises Busy (somebody has it) or BadOrder (an older token, a trial that ran)."""
    device, trial = _open_lock(os.path.join(folder.home, "lock")), None
    try:
        _take_device(device, folder.home)
        if os.path.exists(folder.journal):
            raise BadOrder("trial %s ran before (%s is there); a new run needs a new attempt number"
                           % (folder.name, folder.journal))
        _advance_token(folder.home, order.token)
        trial = _open_lock(folder.lock)
        if not _lock_soon(trial):
            raise Busy("trial %s is running" % folder.name)
    except BaseException:
        for file in (device, trial):
            if file is not None:
                os.close(file)
        raise
    return Claim(device, trial)


def take_to_serve(home: str, serving: Serving) -> Claim:
    """Take this device for a trial of another one: H/lock, H/serve.lock. Raises Busy, or BadOrder (an older token)."""
    device, service = _open_lock(os.path.join(home, "lock")), _open_lock(os.path.join(home, SERVE_LOCK))
    try:
        _take_device(device, home)
        _advance_token(home, serving.token)
        if not _lock_soon(service):
            raise Busy("%s serves another device still" % home)
    except BaseException:
        os.close(device)
        os.close(service)
        raise
    return Claim(device, service)


def sign_to_serve(held: Claim, serving: Serving, boot_id: str) -> None:
    """Write whom this device serves into H/lock; done by the process that will serve."""
    _sign(held.device, {"purpose": "serve", "trial": serving.trial, "attempt": serving.attempt, "token": serving.token,
                   "pid": os.getpid(), "boot_id": boot_id})


@contextlib.contextmanager
def device_lock(home: str, purpose: str) -> Iterator[None]:
    """The device for something short that is no trial. Raises Busy."""
    device = _open_lock(os.path.join(home, "lock"))
    try:
        _take_device(device, home)
        _sign(device, {"purpose": purpose, "pid": os.getpid()})
        yield
    finally:
        os.close(device)


def _take_device(device: int, home: str) -> None:
    if not _lock_soon(device):
        owner = os.pread(device, 4096, 0).decode("utf-8", "replace").strip()
        raise Busy("another trial has this device (%s): %s" % (home, owner or "it has not signed yet"))


def _sign(device: int, owner: Dict[str, Any]) -> None:
    os.ftruncate(device, 0)
    os.pwrite(device, (json.dumps(owner, sort_keys=True) + "\n").encode("ascii"), 0)


def _advance_token(home: str, token: int) -> None:
    path = os.path.join(home, "token")
    try:
        with open(path, encoding="ascii") as file:
            seen = int(file.read() or 0)
    except (FileNotFoundError, ValueError):
        seen = 0
    if token < seen:
        raise BadOrder("this order's token is %d and the device has seen %d: a newer controller took it over, or the "
                       "clock of this one is behind" % (token, seen))
    if token > seen:
        with open(path + ".part", "w", encoding="ascii") as file:
            file.write("%d\n" % token)
        os.replace(path + ".part", path)


def _open_lock(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock_soon(file: int) -> bool:
    """Take it without waiting for an owner, but bear with a reader's glance."""
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        if time.monotonic() >= give_up:
            return False
        time.sleep(0.01)
