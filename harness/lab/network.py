"""The lab's network: a switch in a namespace of its own, the controller's port into it, one namespace a device.

Called by lab.py and faults.py; needs root. Addresses are 10.77.N.x with N free on this machine, names begin with the
lab's tag, so that several labs live side by side and `down` finds all that is its own. IPv6 is off: what crosses a
port is then only what somebody sent. A device's hardware address is derived from its place, so it survives a reboot.
"""
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.errors import ConfigError

FIRST_HOST = 10
CLAIM_S = 30.0
_CLAIM = b"\0edgefleet-lab-subnet"
SUBNETS = range(200)


class Network:
    """`tag` is at most 8 characters; `subnet` is the N of 10.77.N.0/24. Nothing exists before `create`."""

    def __init__(self, tag: str, subnet: int) -> None:
        self.tag, self.subnet = tag, subnet

    def create(self) -> None:
        _ip(f"netns add {self.tag}",
            f"link add {self.tag} type veth peer name up0 netns {self.tag}",
            f"addr add {self.address(1 - FIRST_HOST)}/24 dev {self.tag}",
            f"link set {self.tag} up")
        self._silence_ipv6(self.tag)
        _ip("link add br0 type bridge mcast_snooping 0", "link set br0 up", "link set up0 master br0 up",
            namespace=self.tag)

    def add(self, name: str, index: int, lengthened: bool = False) -> None:
        """Plug device number `index` in, into what `lengthen` has put before the switch if it has."""
        _ip(f"netns add {self.namespace(name)}")
        self._silence_ipv6(self.namespace(name))
        _ip(f"link add {port(index)} type veth peer name eth0 address {_mac(self.subnet, index)} "
            f"netns {self.namespace(name)}",
            f"link set {port(index)} master {f'x{index}' if lengthened else 'br0'} up", namespace=self.tag)
        _ip(f"addr add {self.address(index)}/24 dev eth0", "link set lo up", "link set eth0 up",
            f"route add default via {self.address(1 - FIRST_HOST)}", namespace=self.namespace(name))

    def remove(self, name: str, index: int) -> None:
        """Cable and namespace go, and with it every socket and what the kernel still had to send."""
        _ip(f"link del {port(index)}", namespace=self.tag)
        _ip(f"netns del {self.namespace(name)}")

    def plugged(self, index: int, up: bool) -> None:
        """Pull the cable at the switch, or put it back."""
        _ip(f"link set {port(index)} {'up' if up else 'down'}", namespace=self.tag)

    def lengthen(self, index: int) -> None:
        """Put two TAP devices, which a wire.py in the switch's namespace has made, between switch and cable."""
        _ip(f"link add x{index} type bridge mcast_snooping 0", f"link set x{index} up",
            f"link set {port(index)} nomaster", f"link set {port(index)} master x{index}",
            *(f"link set {tap} master {bridge} up" for tap, bridge in zip(taps(index), ("br0", f"x{index}"))),
            namespace=self.tag)

    def shorten(self, index: int) -> None:
        """The plain cable again, also after half a `lengthen`."""
        _ip(f"link set {port(index)} nomaster", f"link set {port(index)} master br0", namespace=self.tag)
        _ip(f"link del x{index}", namespace=self.tag, missing_ok=True)

    def destroy(self) -> None:
        """Everything whose name begins with the tag; also what a lab that failed half way left."""
        for name in namespaces():
            if name == self.tag or name.startswith(f"{self.tag}-"):
                _ip(f"netns del {name}", missing_ok=True)
        _ip(f"link del {self.tag}", missing_ok=True)

    def namespace(self, name: str) -> str:
        return f"{self.tag}-{name}"

    def address(self, index: int) -> str:
        return f"10.77.{self.subnet}.{FIRST_HOST + index}"

    def packets_in(self, name: str) -> int:
        """IP packets that a device has received since it was plugged in, ARP not counted."""
        return self._counted(name, "snmp", "Ip:", "InReceives")

    def octets_in(self, name: str) -> int:
        """Bytes of those packets."""
        return self._counted(name, "netstat", "IpExt:", "InOctets")

    def _counted(self, name: str, table: str, protocol: str, counter: str) -> int:
        text = subprocess.run(["ip", "netns", "exec", self.namespace(name), "cat", f"/proc/net/{table}"],
                              capture_output=True, text=True, check=True).stdout
        names, values = [line.split() for line in text.splitlines() if line.startswith(protocol)]
        return int(values[names.index(counter)])

    def _silence_ipv6(self, namespace: str) -> None:
        for scope in ("all", "default"):
            subprocess.run(["ip", "netns", "exec", namespace, "sysctl", "-qw", f"net.ipv6.conf.{scope}.disable_ipv6=1"],
                           check=False, capture_output=True)


def port(index: int) -> str:
    """The switch's end of a device's cable."""
    return f"p{index}"


def taps(index: int) -> tuple[str, str]:
    """What a slow link's wire calls its ends: the switch's and the device's."""
    return f"t{index}", f"u{index}"


def namespaces() -> list[str]:
    text = subprocess.run(["ip", "-j", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [str(one["name"]) for one in json.loads(text or "[]")]


@contextmanager
def claiming() -> Iterator[None]:
    """Hold while a free subnet is looked for and taken: of all labs that start, one at a time does so.

    The lock is a name in the kernel's table of this network, like what it guards: no file, and gone with its holder.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        give_up = time.monotonic() + CLAIM_S
        while True:
            try:
                lock.bind(_CLAIM)
                break
            except OSError:
                if time.monotonic() > give_up:
                    raise ConfigError(f"another lab is being made, for {CLAIM_S:.0f} s already; try again") from None
                time.sleep(0.05)
        yield


def free_subnet() -> int:
    """The first N for which this machine has no address in 10.77.N.0/24."""
    text = subprocess.run(["ip", "-4", "-j", "addr"], capture_output=True, text=True, check=True).stdout
    taken = {entry["local"].rpartition(".")[0] for link in json.loads(text) for entry in link.get("addr_info", ())}
    for number in SUBNETS:
        if f"10.77.{number}" not in taken:
            return number
    raise ConfigError("no free network in 10.77.0.0/16; end a lab: edgefleet lab down")


def _mac(subnet: int, index: int) -> str:
    return f"02:ef:4d:{subnet:02x}:00:{index:02x}"


def _ip(*lines: str, namespace: str | None = None, missing_ok: bool = False) -> None:
    """One `ip -batch` for all lines: a process each would dominate the time of `up`."""
    argv: Sequence[str] = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode and not missing_ok:
        raise ConfigError(f"the lab's network cannot be made: {done.stderr.strip()} ({lines[0]}). "
                          "Try `edgefleet lab down`, then up again.")
