"""The verb `serve`: answer another device's inferences on one port, for the length of a trial that names this device.

Takes the device's lock as a trial does, loads every branch, prints {"port": n} and detaches. It ends by itself when the
trial says so, when the other device has been gone for a while, and at its due time; `stop` ends it before. Connections
are TLS (tls.py), and only who has the trial's key is answered (frames.py); strangers leave a line in H/serve.log. One
request in flight a connection: the next is not read before the last is answered. A connection may become a sink for
the traffic of a trace. It refuses frames that are longer than a sample, and waits for nothing without a deadline.
"""
import json
import os
import select
import socket
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from device_agents import claim, frames, identity, launch, registry, tls, trial_folder
from device_agents.clock import BootClock
from device_agents.frames import Channel, Gone, Refused
from device_agents.seams import Engine, Unsupported, UserError
from device_agents.slowdown import slowed
from device_agents.trial_folder import BadOrder, read_bundle
from device_agents.wire import BranchBundle, Serving, serving_from_json

LOG = "serve.log"
_LOADED_S = 90.0                                # to import the runtime and load the branches, on the slowest board
_GREETING_S = 2.0                               # to show the key
_FRAME_S = 5.0                                  # from a frame's first byte to its last
_ALONE_S = 10.0                                 # without its device, after it was there once
_TURN_S = 0.2
_CONNECTIONS = 4
_SWALLOW_B = 1 << 16
_LOG_LINES = 200                                # strangers must not fill the disk
_EXIT = {"unsupported": Unsupported, "user": UserError}


def serve(home: str, text: str) -> Dict[str, Any]:
    """{"port": n}, once everything is loaded and the port is open. Raises BadOrder, Busy, Unsupported, UserError."""
    try:
        serving = serving_from_json(json.loads(text))
        home = trial_folder.prepare(home)
        context = tls.for_peer(serving.certificate, serving.private_key, home)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadOrder("standard input is no order to serve: %s" % error)
    store = os.path.join(home, "store")
    trial_folder.need(store, [serving.bundle])
    bundle = read_bundle(store, serving.bundle)
    trial_folder.need(store, [bundle.samples] + [branch.artifact for branch in bundle.branches])
    held = claim.take_to_serve(home, serving)
    listener = _listen(serving.host)
    reader, writer = os.pipe()
    if launch.daemonise(os.path.join(home, LOG)):
        os.close(writer)
        return _told(reader)
    os.close(reader)
    try:
        claim.sign_to_serve(held, serving, identity.boot_id() or "")
        _work(serving, bundle, store, listener, context, writer)
    except (Unsupported, UserError) as error:
        _say(writer, error="unsupported" if isinstance(error, Unsupported) else "user", message=str(error))
    except BaseException as error:
        _say(writer, error="agent", message="%s: %s" % (type(error).__name__, error))
        import traceback
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def _work(serving: Serving, bundle: BranchBundle, store: str, listener: socket.socket, context: Any,
          writer: int) -> None:
    clock = BootClock()
    engine_class = registry.load("device_agents.engines", serving.engine, Engine)
    if engine_class.answer is Engine.answer:
        raise Unsupported("engine %s serves no samples of other devices" % serving.engine)
    engine = slowed(engine_class(), serving.engine, serving.slowdown, clock)
    engine.open(bundle, store, {"seed": 0, "clock": clock, "costs": {}})
    for branch in bundle.branches:
        engine.load(branch.id, serving.knobs)
    _say(writer, port=listener.getsockname()[1])
    Server(engine, [branch.id for branch in bundle.branches], sample_bytes(store, bundle), bytes.fromhex(serving.key),
           context, listener, serving.due_s, _log).run()


class Server:
    """Answers `device_agents.peer` on a listening socket until it is over. `log(text)` = one line for people."""

    def __init__(self, engine: Engine, branches: List[str], sample_b: int, key: bytes, context: Any,
                 listener: socket.socket, due_s: float, log: Callable[[str], None],
                 alone_s: float = _ALONE_S) -> None:
        self._engine, self._branches, self._sample_b, self._key = engine, branches, sample_b, key
        self._context = context
        self._listener, self._log, self._alone_s = listener, log, alone_s
        self._due_s = time.monotonic() + due_s
        self._over = threading.Event()
        self._turn = threading.Lock()           # one inference at a time
        self._count = threading.Lock()
        self._open = self._known = 0            # connections, and those of them that have shown the key
        self._alone_since_s: Optional[float] = None

    def run(self) -> None:
        self._listener.settimeout(_TURN_S)
        with self._listener:
            while not self._over.is_set() and time.monotonic() < self._due_s and not self._is_alone():
                try:
                    link, address = self._listener.accept()
                except socket.timeout:
                    continue
                with self._count:
                    full = self._open >= _CONNECTIONS
                    self._open += not full
                if full:
                    self._log("refused %s:%d: %d connections are open already" % (address[:2] + (_CONNECTIONS,)))
                    link.close()
                else:
                    threading.Thread(target=self._connection, args=(link, address), daemon=True).start()
        self._over.set()

    def _is_alone(self) -> bool:
        since_s = self._alone_since_s
        return since_s is not None and time.monotonic() - since_s > self._alone_s

    def _connection(self, link: socket.socket, address: Any) -> None:
        known = False
        try:
            link.settimeout(_GREETING_S)
            _notice_loss(link, self._alone_s)
            with link, self._context.wrap_socket(link, server_side=True) as guarded:
                guarded.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                channel = frames.admit(guarded, self._key, time.monotonic() + _GREETING_S)
                known = True
                self._enter(1)
                while not self._over.is_set() and self._request(channel):
                    pass
        except Gone:
            if not known:
                self._log("refused %s:%d: it left before it showed the key" % address[:2])
        except (OSError, Refused) as error:
            self._log("refused %s:%d: %s" % (address[:2] + (error,)))
        finally:
            with self._count:
                self._open -= 1
            if known:
                self._enter(-1)

    def _enter(self, more: int) -> None:
        with self._count:
            self._known += more
            self._alone_since_s = None if self._known else time.monotonic()

    def _request(self, channel: Channel) -> bool:
        """One frame and its answer. False when the trial is over."""
        most_b = max(frames.LEAST_PROBE_B, frames.REQUEST.size + self._sample_b)
        kind, body = channel.receive(most_b, self._due_s, _FRAME_S)
        deadline_s = time.monotonic() + _FRAME_S
        if kind == frames.BYE:
            self._over.set()
            return False
        if kind == frames.SINK:
            channel.send(frames.SINK, b"", deadline_s)
            self._swallow(channel)
            return False
        if kind == frames.PING:
            channel.send(frames.PONG, b"", deadline_s)
        elif kind == frames.WORK and len(body) == frames.REQUEST.size + self._sample_b:
            answer_kind, answer = self._answer(body)
            channel.send(answer_kind, answer, deadline_s)
        else:
            raise Refused("it sent a frame %r of %d bytes" % (kind, len(body)))
        return True

    def _swallow(self, channel: Channel) -> None:
        """Take what comes and throw it away, until the other end leaves or the trial is over."""
        buffer = bytearray(_SWALLOW_B)
        with channel.bare() as link:
            link.settimeout(_TURN_S)
            while not self._over.is_set():
                try:
                    if not link.recv_into(buffer):
                        return
                except socket.timeout:
                    pass

    def _answer(self, body: bytes) -> Tuple[bytes, bytes]:
        number, branch = frames.REQUEST.unpack_from(body)
        if branch >= len(self._branches):
            return frames.PROBLEM, b"the bundle has no such branch"
        with self._turn:
            begun_s = time.perf_counter()
            try:
                label = self._engine.answer(self._branches[branch], body[frames.REQUEST.size:])
            except Exception as error:          # one request's trouble is told to who asked
                self._log("branch %s: %s: %s" % (self._branches[branch], type(error).__name__, error))
                return frames.PROBLEM, ("%s: %s" % (type(error).__name__, error)).encode("utf-8")[:200]
            served_us = int((time.perf_counter() - begun_s) * 1e6)
        return frames.ANSWER, frames.REPLY.pack(number, -1 if label is None else label, served_us)


def _notice_loss(link: socket.socket, within_s: float) -> None:
    """Have the kernel break a connection whose other host has not answered for so long (2 s at the least): one without
    power says no goodbye. Frames that stay away are no sign: the shaper may be losing them all, as the trace asks."""
    every_s = max(1, int(within_s / 4))
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, every_s)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every_s)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(2000, int(within_s * 1e3)))


def sample_bytes(store: str, bundle: BranchBundle) -> int:
    """Size of one sample as it lies in the bundle, and as it is sent."""
    return os.path.getsize(os.path.join(store, bundle.samples)) // bundle.count


def _listen(host: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((host, 0))
        listener.listen(_CONNECTIONS)
    except (OSError, UnicodeError) as error:
        listener.close()
        raise BadOrder("cannot listen on %r: %s" % (host, error))
    return listener


def _told(reader: int) -> Dict[str, Any]:
    """What the daemon says when it is ready, or why it is not."""
    data, give_up_s = b"", time.monotonic() + _LOADED_S
    while not data.endswith(b"\n"):
        ready = select.select([reader], [], [], max(0.0, give_up_s - time.monotonic()))[0]
        part = os.read(reader, 4096) if ready else b""
        if not part:
            raise OSError("serve did not begin within %.0f s; see %s on this device" % (_LOADED_S, LOG))
        data += part
    told: Dict[str, Any] = json.loads(data.decode("ascii"))
    if "error" in told:
        raise _EXIT.get(told["error"], OSError)("serve: %s" % told["message"])
    return told


def _say(writer: int, **values: Any) -> None:
    try:
        os.write(writer, json.dumps(values).encode("ascii") + b"\n")
        os.close(writer)
    except OSError:                             # said before, or nobody listens any more
        pass


_lines = 0


def _log(text: str) -> None:
    global _lines
    _lines += 1
    if _lines <= _LOG_LINES:
        sys.stderr.write("%s %s\n" % (time.strftime("%Y-%m-%d %H:%M:%S"), text))
        sys.stderr.flush()
