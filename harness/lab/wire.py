"""A slow link: one process that carries Ethernet frames between two TAP devices, late, in order, and not all of them.

Started by faults.py inside the switch's namespace (`python -m harness.lab.wire`), because this kernel may lack netem.
Its shape can be changed while it runs: a JSON object sent to its control socket. Loss and jitter come from a seeded
generator, so that a fault can be repeated. It refuses to reorder frames: jitter delays those behind it, too.
"""
import argparse
import contextlib
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import NamedTuple

TUNSETIFF = 0x400454CA
TAP_WITHOUT_HEADER = 0x0002 | 0x1000
FRAME_B = 65536
BURST = 64                                      # frames read from one side before the other has its turn


class Shape(NamedTuple):
    """Each direction has all of it. `rate_mbit` 0 = no limit; `loss` is a probability, 0..1."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    rate_mbit: float = 0.0
    queue_kb: float = 256.0
    seed: int = 1


class Wire:
    """Two open TAP descriptors and the frames on their way."""

    def __init__(self, ends: tuple[int, int], shape: Shape) -> None:
        self._peer = {ends[0]: ends[1], ends[1]: ends[0]}
        self._free_s = dict.fromkeys(ends, 0.0)     # when the last frame has left, at the rate
        self._last_s = dict.fromkeys(ends, 0.0)     # when the last frame arrives: none may overtake it
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self.reshape(shape)

    def reshape(self, shape: Shape) -> None:
        self._shape, self._random = shape, random.Random(shape.seed)

    def carry(self, control: socket.socket) -> None:
        """Until the process ends."""
        while True:
            wait_s = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            for ready in select.select([*self._peer, control.fileno()], [], [], wait_s)[0]:
                if ready == control.fileno():
                    self.reshape(Shape(**json.loads(control.recv(4096))))
                else:
                    self._accept(ready)
            self._deliver(time.monotonic())

    def _accept(self, end: int) -> None:
        for _ in range(BURST):
            try:
                frame = os.read(end, FRAME_B)
            except BlockingIOError:
                return
            due_s = self.due_s(end, len(frame), time.monotonic())
            if due_s is not None:
                self._count += 1
                heapq.heappush(self._waiting, (due_s, self._count, self._peer[end], frame))

    def due_s(self, end: int, size_b: int, now_s: float) -> float | None:
        """When a frame that enters at `end` now arrives at the other; None when it is lost."""
        shape = self._shape
        if shape.loss and self._random.random() < shape.loss:
            return None
        leaves_s = now_s
        if shape.rate_mbit:
            begins_s = max(now_s, self._free_s[end])
            if (begins_s - now_s) * shape.rate_mbit * 125.0 > shape.queue_kb:      # Mbit/s * 125 = kB/s
                return None
            leaves_s = self._free_s[end] = begins_s + size_b * 8 / (shape.rate_mbit * 1e6)
        delay_ms = shape.delay_ms + self._random.uniform(-1.0, 1.0) * shape.jitter_ms
        self._last_s[end] = max(self._last_s[end], leaves_s + max(0.0, delay_ms) / 1e3)
        return self._last_s[end]

    def _deliver(self, now_s: float) -> None:
        while self._waiting and self._waiting[0][0] <= now_s:
            _, _, end, frame = heapq.heappop(self._waiting)
            with contextlib.suppress(OSError):  # the far end is down: frames fall on the floor
                os.write(end, frame)


def tap(name: str) -> int:
    """A TAP device of that name in this process's network namespace; it goes when the descriptor closes."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), TAP_WITHOUT_HEADER))
    return descriptor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ends", nargs=2, help="names of the two TAP devices")
    parser.add_argument("control", type=Path, help="path of the control socket")
    parser.add_argument("shape", type=json.loads, help="JSON: delay_ms, jitter_ms, loss, rate_mbit, queue_kb, seed")
    arguments = parser.parse_args()
    wire = Wire((tap(arguments.ends[0]), tap(arguments.ends[1])), Shape(**arguments.shape))
    arguments.control.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        control.bind(str(arguments.control))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        wire.carry(control)


if __name__ == "__main__":
    main()
