"""Network: traffic that the device's interfaces carry, and the strength of its radio link.

Read by the sampler from /proc/net/dev (bytes) and /proc/net/wireless (level). Only interfaces with hardware behind
them count, else, in a container, all but the loopback: a bridge and its members would count every byte twice.
A counter that went back gives None. Refuses to say what the link *could* carry (net_mbps, rtt_ms): that is for whoever
sends over it to measure.
"""
import os
import time
from typing import Callable, Dict, Optional, Tuple

from device_agents.seams import Sensor
from device_agents.sysfs import Files, number_of


class Network(Sensor):
    """net_rx_mbps, net_tx_mbps: Mbit/s since the last reading. rssi_dbm: of the first wireless interface."""

    metrics = ("net_rx_mbps", "net_tx_mbps", "rssi_dbm")
    source = "/proc/net/dev and /proc/net/wireless"
    period_s = 1.0

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._files, self._now_s = Files(), now_s
        self._last: Optional[Tuple[float, Dict[str, Tuple[int, int]]]] = None

    def read(self, root: str) -> Dict[str, Optional[float]]:
        reading: Dict[str, Optional[float]] = dict.fromkeys(self.metrics)
        reading["rssi_dbm"] = _rssi_dbm(self._files.text(root + "/proc/net/wireless") or "")
        now_s, counters = self._now_s(), self._counters(root)
        last, self._last = self._last, (now_s, counters)
        if last is None or now_s <= last[0] or not counters or set(last[1]) != set(counters):
            return reading                      # an interface that came or went would look like traffic
        for place, metric in enumerate(("net_rx_mbps", "net_tx_mbps")):
            deltas = [counters[name][place] - last[1][name][place] for name in counters]
            if min(deltas) >= 0:
                reading[metric] = sum(deltas) * 8e-6 / (now_s - last[0])
        return reading

    def _counters(self, root: str) -> Dict[str, Tuple[int, int]]:
        """(received, sent) bytes by interface."""
        found = {}
        for line in (self._files.text(root + "/proc/net/dev", 65536) or "").splitlines()[2:]:
            name, colon, rest = line.partition(":")
            fields = rest.split()
            if colon and len(fields) >= 9 and fields[0].isdigit() and fields[8].isdigit() and name.strip() != "lo":
                found[name.strip()] = (int(fields[0]), int(fields[8]))
        real = {name: found[name] for name in found if os.path.exists("%s/sys/class/net/%s/device" % (root, name))}
        return real or found


def _rssi_dbm(text: str) -> Optional[float]:
    """Level of the first interface. Old drivers give dBm + 256; anything outside -120..-1 dBm is no reading."""
    for line in text.splitlines()[2:]:
        fields = line.partition(":")[2].split()
        level = number_of(fields[2].rstrip(".")) if len(fields) > 2 else None
        if level is not None:
            level = level - 256 if level > 63 else level
            return level if -120 <= level <= -1 else None
    return None
