"""Frames between a device and its peer: length-prefixed, and each with a tag that only a holder of the key can make.

Used at both ends, by serve.py and peer.py. A connection begins with a challenge each way (HMAC-SHA256 over two nonces),
which makes the session's key; a frame is length, tag, kind and body, the tag over direction, number and content, so
that nothing can be forged, replayed or reordered. What hides it is the TLS around it (tls.py). Every wait has a
deadline (monotonic seconds). It refuses frames longer than stated before it reads them.
"""
import hashlib
import hmac
import os
import socket
import struct
import time
from typing import Tuple

MAGIC = b"edgefleet peer 1"
WORK, ANSWER, PING, PONG, PROBLEM, BYE, SINK = b"W", b"A", b"P", b"p", b"E", b"B", b"S"
REQUEST = struct.Struct(">IH")                  # number of the request, number of the branch; the sample follows
REPLY = struct.Struct(">IiI")                   # number of the request, class, microseconds that serving it took
LEAST_PROBE_B = 1024                            # a probe's large frame is a sample, and no smaller than this
FRAME_B = 4 + 16 + 1                            # what a frame has besides its body
_LENGTH, _NUMBER = struct.Struct(">I"), struct.Struct(">Q")
_NONCE_B, _TAG_B, _PROOF_B = 16, 16, 32


class Refused(Exception):
    """The other end does not have the key, or what it sends is no frame of ours; says why."""


class Gone(Refused):
    """The other end has closed the connection."""


class Channel:
    """One authenticated connection. For one thread at each end."""

    def __init__(self, link: socket.socket, session: bytes, ours: bytes, theirs: bytes) -> None:
        self._link = link
        self._ours = hmac.new(session, ours, hashlib.sha256)
        self._theirs = hmac.new(session, theirs, hashlib.sha256)
        self._sent = self._received = 0

    def send(self, kind: bytes, body: bytes, deadline_s: float) -> None:
        """Raises OSError (socket.timeout included)."""
        tag = _tag(self._ours, self._sent, kind, body)
        self._sent += 1
        self._link.settimeout(_left(deadline_s))
        self._link.sendall(_LENGTH.pack(_TAG_B + 1 + len(body)) + tag + kind + body)

    def receive(self, most_b: int, deadline_s: float, frame_s: float = float("inf")) -> Tuple[bytes, bytes]:
        """(kind, body) of a frame that begins before `deadline_s` and is whole `frame_s` seconds later at the most.

        Raises OSError, Gone (closed between two frames), Refused (too long, damaged, forged).
        """
        head = _read(self._link, 1, deadline_s)
        deadline_s = min(deadline_s, time.monotonic() + frame_s)
        size_b = _LENGTH.unpack(head + _read(self._link, 3, deadline_s))[0]
        if not _TAG_B < size_b <= _TAG_B + 1 + most_b:
            raise Refused("a frame of %d bytes, expected %d at the most" % (size_b, _TAG_B + 1 + most_b))
        data = _read(self._link, size_b, deadline_s)
        kind, body = data[_TAG_B:_TAG_B + 1], data[_TAG_B + 1:]
        if not hmac.compare_digest(data[:_TAG_B], _tag(self._theirs, self._received, kind, body)):
            raise Refused("a frame with a wrong tag")
        self._received += 1
        return kind, body

    def bare(self) -> socket.socket:
        """The connection itself, once both ends have agreed (SINK) that only what means nothing follows: no frames, no
        TLS. The channel is of no use any more."""
        return socket.socket(fileno=self._link.detach())

    def close(self) -> None:
        self._link.close()


def greet(link: socket.socket, key: bytes, deadline_s: float) -> Channel:
    """The device's side, on a fresh connection. Raises Refused or OSError; the caller closes the socket."""
    opening = _read(link, len(MAGIC) + _NONCE_B, deadline_s)
    if not opening.startswith(MAGIC):
        raise Refused("it is no peer of this version")
    theirs, ours = opening[len(MAGIC):], os.urandom(_NONCE_B)
    link.sendall(ours + _proof(key, b"device", theirs, ours))
    try:
        proof = _read(link, _PROOF_B, deadline_s)
    except Gone:
        raise Refused("the peer refused our key")
    if not hmac.compare_digest(proof, _proof(key, b"peer", theirs, ours)):
        raise Refused("the peer does not have the key")
    return Channel(link, _proof(key, b"session", theirs, ours), b"device", b"peer")


def admit(link: socket.socket, key: bytes, deadline_s: float) -> Channel:
    """The peer's side. Says nothing but a nonce to who does not have the key. Raises Refused or OSError."""
    ours = os.urandom(_NONCE_B)
    link.settimeout(_left(deadline_s))
    link.sendall(MAGIC + ours)
    answer = _read(link, _NONCE_B + _PROOF_B, deadline_s)
    theirs = answer[:_NONCE_B]
    if not hmac.compare_digest(answer[_NONCE_B:], _proof(key, b"device", ours, theirs)):
        raise Refused("a wrong key")
    link.sendall(_proof(key, b"peer", ours, theirs))
    return Channel(link, _proof(key, b"session", ours, theirs), b"peer", b"device")


def _proof(key: bytes, who: bytes, peers_nonce: bytes, devices_nonce: bytes) -> bytes:
    return hmac.new(key, who + peers_nonce + devices_nonce, hashlib.sha256).digest()


def _tag(keyed: "hmac.HMAC", number: int, kind: bytes, body: bytes) -> bytes:
    made = keyed.copy()
    made.update(_NUMBER.pack(number) + kind)
    made.update(body)
    return made.digest()[:_TAG_B]


def _read(link: socket.socket, size_b: int, deadline_s: float) -> bytes:
    parts = []
    while size_b:
        link.settimeout(_left(deadline_s))
        part = link.recv(size_b)
        if not part:
            raise Gone("the connection was closed")
        parts.append(part)
        size_b -= len(part)
    return b"".join(parts)


def _left(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise socket.timeout("timed out")
    return left_s
