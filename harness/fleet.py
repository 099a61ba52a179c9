"""fleet.toml -> passive facts about devices, groups and sites. Nothing here opens a connection.

`load_fleet` reads and checks the file, `FleetSpec.select` picks devices by name, glob or tag. Called by resolve.py,
the runner and the scheduler. Refuses unknown keys, transports, groups and sites, and names that cannot be file names.
"""
import fnmatch
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from device_agents import registry
from harness.errors import ConfigError
from harness.spec_file import Name, Spec, read_toml, validated

FLEET_FILE = "fleet.toml"                       # looked for in the working directory
HOST_GROUP = "host"                             # what shares the cores of the machine that the controller runs on
NO_RUNTIME = "none"                             # of a device that lacks the engine's runtime: its trials are skipped
LOOPBACK = "127.0.0.1"
HERE = "here"                                   # the site of the controller itself
Names = Annotated[tuple[Name, ...], Field(strict=False)]


class DeviceSpec(Spec):
    """One device, as the file states it. `home` is the agent's folder on the device, None for the transport's own.

    `ssh_config` is a file to read instead of ~/.ssh/config; `env` is set for every command on the device (adb: names
    that begin with ADB_ or ANDROID_, and HOME, are the adb program's). `slowdown` > 1 makes an emulated device of a
    real one; `simulate` (stated costs and so on) belongs to the transport `simulated`; `warm_s` keeps a warm parent for
    so many seconds without work, 0 starts every agent cold. `address` is the IPv4 address at which other devices reach
    this one as a peer; without it, the one at which the controller does.
    """

    name: Name
    transport: Name = "local"
    host: str | None = None
    user: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    address: str | None = None
    serial: str | None = None
    ssh_config: str | None = None
    python: str | None = None
    home: str | None = None
    site: Name = HERE
    groups: Names = ()
    tags: Names = ()
    slowdown: Annotated[float, Field(ge=1.0, le=1000.0)] = 1.0
    device_class: str | None = None
    power_model: dict[str, Any] | None = None
    warm_s: Annotated[float, Field(ge=0.0)] = 0.0
    simulate: dict[str, Any] | None = None
    env: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _local_devices_share_the_host(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("transport", "local") == "local" and "groups" not in value:
            return {**value, "groups": (HOST_GROUP,)}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "DeviceSpec":
        if self.simulate is not None and self.transport != "simulated":
            raise ValueError(f"'simulate' needs transport = \"simulated\", not {self.transport!r}")
        if self.transport == "simulated" and self.slowdown != 1.0:
            raise ValueError("'slowdown' is for real devices; state a simulated device's costs in 'simulate'")
        if self.power_model is not None and not {"idle_w", "busy_w", "source"} <= set(self.power_model):
            raise ValueError("'power_model' needs the keys idle_w, busy_w and source (where the watts come from)")
        if self.address is not None and _ipv4(self.address) is None:
            raise ValueError(f"'address' must be an IPv4 address such as \"192.168.1.20\", not {self.address!r}")
        return self

    @property
    def provenance(self) -> str:
        """Of everything that this device times: simulated, emulated or measured."""
        if self.transport == "simulated":
            return "simulated"
        return "emulated" if self.slowdown != 1.0 else "measured"


    def address_for(self, other: "DeviceSpec") -> str | None:
        """Where this device, as a peer, is to listen for `other`; None where the file does not tell.

        A loopback address is one for devices on this machine alone, and two local devices need no other.
        """
        if (self.transport, other.transport) == ("local", "local"):
            return LOOPBACK
        found = _ipv4(self.address or self._cable_address())
        if found is not None and found.is_loopback and other.transport != "local":
            there = _ipv4(other.host)
            found = found if there is not None and there.is_loopback else None
        return None if found is None else str(found)

    def _cable_address(self) -> str | None:
        """Where the controller reaches it. A port of this machine is forwarded to where adbd is, or an emulator's."""
        if self.transport != "adb":
            return self.host if self.transport == "ssh" else None
        host = self.serial.rpartition(":")[0] if self.serial else self.host     # of a serial of USB: no address
        there = _ipv4(host)
        return None if there is None or there.is_loopback else host


def _ipv4(text: str | None) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text or "")
    except ValueError:
        return None


class GroupSpec(Spec):
    """Devices that share something: cores, a hub, an edge server. `limit` = measured windows at once."""

    limit: Annotated[int, Field(ge=1)] = 1


class SiteSpec(Spec):
    """A machine that can reach some devices; placed by the Ray resource `site:NAME`."""


class FleetSpec(Spec):
    """The whole file. `devices` is in the file's order; `defaults` is already merged into each of them."""

    devices: dict[Name, DeviceSpec]
    groups: dict[Name, GroupSpec] = Field(default_factory=dict)
    sites: dict[Name, SiteSpec] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _merge_defaults(cls, value: dict[str, Any]) -> dict[str, Any]:
        devices, defaults, groups = value.get("devices"), value.get("defaults", {}), value.get("groups", {})
        if not (isinstance(devices, dict) and isinstance(defaults, dict) and isinstance(groups, dict)):
            return value                        # the checks of the fields say what is wrong
        merged = {name: {**defaults, **one, "name": name} if isinstance(one, dict) else one
                  for name, one in devices.items()}
        return {**value, "devices": merged, "groups": {HOST_GROUP: {}, **groups}}

    def select(self, patterns: Iterable[str], where: str = "") -> list[DeviceSpec]:
        """By name, glob or "tag:x", each once, in the fleet's order. ConfigError for a pattern without match.

        "tag:x?" may match none, but something must be selected in the end.
        """
        wanted: set[str] = set()
        missed = ""
        for pattern in patterns:
            found = {name for name in self.devices if self.matches(name, pattern)}
            if not found and not (pattern.startswith("tag:") and pattern.endswith("?")):
                raise self._no_match(pattern, where)
            missed = missed if found else pattern
            wanted |= found
        if missed and not wanted:
            raise self._no_match(missed.removesuffix("?"), where)
        return [device for name, device in self.devices.items() if name in wanted]

    def matches(self, name: str, pattern: str) -> bool:
        """Whether the device `name` is meant by `pattern`."""
        if pattern.startswith("tag:"):
            return pattern[4:].removesuffix("?") in self.devices[name].tags
        return fnmatch.fnmatchcase(name, pattern)

    def _no_match(self, pattern: str, where: str) -> ConfigError:
        if pattern.startswith("tag:"):
            tags = {tag for device in self.devices.values() for tag in device.tags}
            return ConfigError.unknown("device tag", pattern[4:], tags, where)
        return ConfigError.unknown("device", pattern, self.devices, where)


def host_only() -> FleetSpec:
    """The fleet without a file: this machine, as the device `host`."""
    return FleetSpec(devices={"host": DeviceSpec(name="host")}, groups={HOST_GROUP: GroupSpec()})


def load_fleet(path: Path) -> FleetSpec:
    """Raises ConfigError: no such file, broken TOML, unknown key, transport, group or site, no device at all."""
    value = read_toml(path, "fleet")
    fleet = validated(FleetSpec, value, path)
    if not fleet.devices:
        raise ConfigError(f"{path}: no device; add one, for example:\n[devices.host]\ntransport = \"local\"")
    transports = registry.names("harness.transports")
    for name, device in fleet.devices.items():
        where = f"{path} (devices.{name})"
        if device.transport not in transports:
            raise ConfigError.unknown("transport", device.transport, transports, where)
        if device.site != HERE and device.site not in fleet.sites:
            raise ConfigError.unknown("site", device.site, {HERE, *fleet.sites}, where)
        for group in device.groups:
            if group not in fleet.groups:
                raise ConfigError.unknown("group", group, fleet.groups, where)
    return fleet
