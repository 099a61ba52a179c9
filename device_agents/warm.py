"""The warm parent: a process that has imported the runtime, holds no session, and forks a fresh process a trial.

Started by `run --detach --warm-s S` when none is there; ends S seconds after its last trial did. It listens on
H/warm.sock to its own user only, and refuses trials of another agent, engine or Python; then it leaves, and the trial
starts cold, with a new warm parent. It sleeps in between. A trial is handed over in two steps: the parent says that it
would run it, and gets the claim's two descriptors, which nobody can take back, or learns that it was not waited for.
"""
import array
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any, Dict, Optional

from device_agents import identity, launch, registry
from device_agents.claim import Claim
from device_agents.seams import Engine, Unsupported
from device_agents.trial_folder import BadOrder, TrialFolder
from device_agents.wire import Order

_SOCKET = "warm.sock"                           # below H, and relative to it: a socket's path has 108 bytes at most
_ANSWER_S = 5.0                                 # a warm parent answers within milliseconds or is no good
_MOST_B = 4096
_READY, _GO = b"ready", b"go"


def hand_over(folder: TrialFolder, order: Order, claim: Claim) -> bool:
    """Give the trial to a warm parent. False when there is none that fits; the claim is then still ours."""
    request = dict(_key(order.trial.engine), trial=folder.name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(_ANSWER_S)
        here = os.getcwd()
        try:
            os.chdir(folder.home)
            caller.connect(_SOCKET)
            caller.sendall(json.dumps(request).encode("ascii"))
            if caller.recv(16) != _READY:
                return False
            files = array.array("i", [claim.device, claim.trial])
            caller.sendmsg([_GO], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files.tobytes())])
            return True
        except OSError:
            return False
        finally:
            os.chdir(here)


def stay(folder: TrialFolder, order: Order, claim: Claim, warm_s: float) -> None:
    """Become the warm parent, in a daemon that already has its streams: run this trial in a fork, then wait for more.

    Never returns.
    """
    try:
        os.chdir(folder.home)
        key = _key(order.trial.engine)
        _import_for_all(order.trial.engine)
        listener = _listen()
        children = {_fork(folder, order, claim, listener)}
        _serve(folder.home, key, listener, children, warm_s)
    except BaseException:
        import traceback
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(0)


def _import_for_all(engine: str) -> None:
    """What every trial would import: the loop, the sensors (read once, which compiles their patterns), the runtime."""
    from device_agents import probe, sampler, trial_process  # noqa: F401
    probe.read_all(sampler.open_sensors(), "")
    sampler.open_energy("", None)
    try:
        registry.load("device_agents.engines", engine, Engine).runtime()
    except (Unsupported, registry.UnknownPlugin):
        pass                                    # the trial says so in its journal


def _serve(home: str, key: Dict[str, Any], listener: socket.socket, children: "set[int]", warm_s: float) -> None:
    idle_since = time.monotonic()
    socket_id = _socket_id()
    while True:
        left_s = warm_s - (time.monotonic() - idle_since)
        ready = select.select([listener], [], [], max(0.0, left_s))[0]
        if _reap(children):
            idle_since = time.monotonic()
        if ready:
            if not _answer(home, key, listener, children):
                break
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since >= warm_s:
            break
    if _socket_id() == socket_id:               # else a successor has put its own there
        os.unlink(_SOCKET)


def _answer(home: str, key: Dict[str, Any], listener: socket.socket, children: "set[int]") -> bool:
    """One request. False when it asks for another agent, engine or Python: this parent is of no use any more."""
    connection = listener.accept()[0]
    with connection:
        connection.settimeout(_ANSWER_S)
        request = _request(connection)
        name = str(request.pop("trial", ""))
        if request != key:
            return not request                  # an empty one is somebody who looked in and left
        try:
            folder = TrialFolder(home, name)
            order = folder.read_order()
            connection.sendall(_READY)
            claim = _claim(connection)
            if claim is not None:
                children.add(_fork(folder, order, claim, listener))
        except (OSError, BadOrder) as error:
            print("warm parent: %s: %s" % (name, error), file=sys.stderr)
    return True


def _request(connection: socket.socket) -> Dict[str, Any]:
    """What the caller asks for; {} when that is nothing, or the caller is somebody else's."""
    try:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        user = struct.unpack("3i", credentials)[1]
        request = json.loads(connection.recv(_MOST_B).decode("ascii")) if user == os.getuid() else {}
    except (OSError, ValueError):
        request = {}
    return request if isinstance(request, dict) else {}


def _claim(connection: socket.socket) -> Optional[Claim]:
    """The claim, which is then ours alone to use; None when the caller has given us up, and starts the trial itself."""
    select.select([connection], [], [], _ANSWER_S)
    connection.shutdown(socket.SHUT_RD)         # what the caller has not sent by now it learns to be refused
    files = array.array("i")
    _, ancillary, _, _ = connection.recvmsg(len(_GO), socket.CMSG_SPACE(2 * files.itemsize))
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(content[:len(content) - len(content) % files.itemsize])
    if len(files) == 2:
        return Claim(*files)
    for file in files:
        os.close(file)
    return None


def _fork(folder: TrialFolder, order: Order, claim: Claim, listener: socket.socket) -> int:
    """The trial in a process of its own session; here the claim's descriptors are closed."""
    sys.stderr.flush()
    child = -1
    try:
        child = os.fork()
    finally:
        if child:                               # ours in any case: a claim that stays here keeps the device
            claim.release()
    if child:
        return child
    try:
        os.setsid()
        listener.close()
        os.chdir("/")
        launch.redirect(folder.stderr)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    finally:
        launch.run_and_exit(folder, order, claim)
    raise AssertionError("unreachable")


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    part = "%s.%d" % (_SOCKET, os.getpid())
    listener.bind(part)
    os.chmod(part, 0o600)
    listener.listen(4)
    os.rename(part, _SOCKET)
    return listener


def _reap(children: "set[int]") -> bool:
    """Collect what has ended. True while a trial runs or one has just ended: the parent is not idle."""
    before = len(children)
    for child in list(children):
        if os.waitpid(child, os.WNOHANG)[0]:
            children.discard(child)
    return before > 0


def _key(engine: str) -> Dict[str, Any]:
    """What a warm parent and a trial must agree on."""
    return {"agent": identity.agent_sha256(), "engine": engine, "python": sys.executable, "version": sys.version,
            "path": os.environ.get("PYTHONPATH", "")}


def _socket_id() -> Optional[int]:
    try:
        return os.stat(_SOCKET).st_ino
    except OSError:
        return None
