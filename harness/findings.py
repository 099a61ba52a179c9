"""What a probe's facts mean: findings about a device, each with its fix. Pure; called by doctor.

An error is what keeps every trial from running there, a warning what makes results poorer, a note what cannot be had.
Every fix ends in a command to type; what root would add, in the line of sudoers that allows it and nothing else.
"""
import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.cable.adb_program import OF_ADB, PORT
from harness.fleet import DeviceSpec
from harness.portrait import made_up, sensed, skew_s, thermal, told

LOW_DISK_MB = 200.0
LOW_MEMORY_MB = 150.0
CLOCK_SKEW_S = 2.0
SLOW_LINK_MB_S = 1.0
FAR_LINK_MS = 100.0
STATED_ONLY = ("replay", "remote")              # engines that run no network themselves: no sign of a usable device
STEADY = ("performance", "userspace")           # governors that leave the clock alone
_NAMES_DEVICES = re.compile(r"edgefleet (?:doctor|run|plan|device \w+) [\w./-]*\w")


class Finding(NamedTuple):
    """`level` is error, warning or note."""

    level: str
    text: str
    fix: str


def examine(spec: DeviceSpec, facts: Mapping[str, Any] | None, silence: str | None,
            fleet: str | None = None, proven: bool = False) -> list[Finding]:
    """Everything that a person should know about a device. `facts` None: it did not answer, `silence` says why.

    `fleet` is a file that commands find only when they name it. `proven`: a trial with a runtime is done on it."""
    found = _examined(spec, facts, silence, proven)
    if fleet is None:
        return found
    there = f" --fleet {shlex.quote(fleet)}"
    named = [[_NAMES_DEVICES.sub(lambda command: command[0] + there, words) for words in (one.text, one.fix)]
             for one in found]
    return [Finding(one.level, *words) for one, words in zip(found, named, strict=True)]


def _examined(spec: DeviceSpec, facts: Mapping[str, Any] | None, silence: str | None, proven: bool) -> list[Finding]:
    if facts is None:
        return [Finding("error", silence or "no answer", _reach(spec))]
    if not told(facts):
        return [*_engines(spec, facts), *_phone(spec, facts, proven), *_link(spec, facts)]
    return [*_engines(spec, facts), *_phone(spec, facts, proven), *_sensors(spec, facts), *_heat(spec, facts),
            *_clocks(spec, facts), *_energy(spec, facts), *_room(spec, facts), *_wall(spec, facts), *_link(spec, facts)]


def runs(facts: Mapping[str, Any]) -> str:
    """The inference runtimes of a device, e.g. "onnxruntime 1.31.1"."""
    answers = [one for name, one in facts.get("engines", {}).items() if name not in STATED_ONLY]
    return ", ".join(dict.fromkeys(str(one["runtime"]) for one in answers if one.get("runtime"))) or "nothing"


def on_device(spec: DeviceSpec, command: str) -> str:
    """The words that run a shell command there, as a person would type them."""
    if spec.transport == "adb":
        return adb_here(spec, "-s", spec.serial or f"{spec.host}:{spec.port or PORT}", "shell", command)
    if spec.transport != "ssh" or spec.host is None:
        return command
    options = [*(["-F", spec.ssh_config] if spec.ssh_config else []), *(["-l", spec.user] if spec.user else []),
               *(["-p", str(spec.port)] if spec.port else [])]
    return shlex.join(["ssh", *(["-t"] if "sudo " in command else []), *options, spec.host, command])


def adb_here(spec: DeviceSpec, *words: str) -> str:
    """The adb that this device is reached by: its `env` may name a server of its own."""
    own = [f"{name}={shlex.quote(value)}" for name, value in spec.env.items() if OF_ADB.match(name)]
    return " ".join([*own, shlex.join(["adb", *words])])


def _reach(spec: DeviceSpec) -> str:
    again = f"edgefleet doctor {spec.name}"
    if spec.transport == "ssh":
        return f"check its cable, power and address, then type: {on_device(spec, 'true')} && {again}"
    if spec.transport == "adb":
        return f"check its cable and power, unlock it, then type: {adb_here(spec, 'devices', '-l')} && {again}"
    return ("set `python` of this device in fleet.toml to a Python >= 3.6 of this machine, and `home`, where it has "
            f"one, to a folder that you may write, then type: {again}")


def _engines(spec: DeviceSpec, facts: Mapping[str, Any]) -> list[Finding]:
    answers = {name: one for name, one in facts.get("engines", {}).items() if name not in STATED_ONLY}
    if spec.transport == "simulated" or any(one.get("runtime") for one in answers.values()):
        return []
    reasons = "; ".join(f"{name}: {one.get('reason') or 'no runtime'}" for name, one in answers.items())
    return [Finding("error", f"no inference runtime ({reasons or 'no engine'})",
                    "point `python` in fleet.toml to one that has numpy and onnxruntime, or type: "
                    f"edgefleet device provision {spec.name}")]


def _phone(spec: DeviceSpec, facts: Mapping[str, Any], proven: bool) -> list[Finding]:
    """A lab's phone proves none."""
    if spec.transport != "adb" or (proven and not made_up(facts)):
        return []
    return [Finding("note", "phone inference unproven: the runtime was tried under emulation and on the virtual lab, "
                            "and no real phone has run it yet",
                    "report what comes of it (docs/devices.md); type: edgefleet run "
                    "workloads/campaigns/fleet-smoke.toml && edgefleet status fleet-smoke --block")]


def _sensors(spec: DeviceSpec, facts: Mapping[str, Any]) -> list[Finding]:
    if spec.transport == "simulated":
        return []
    found = []
    if sensed(facts, "temp_c") is None:
        found.append(Finding("note", "no temperature sensor can be read, so preflight passes it as \"unknown\"",
                             "none on a virtual machine; on a board, look at its permissions, type: "
                             + on_device(spec, "ls -l /sys/class/thermal/thermal_zone*/temp")))
    if sensed(facts, "freq_mhz") is None:
        found.append(Finding("note", "no CPU frequency can be read",
                             "none on a virtual machine; on a board, see whether it has a cpufreq driver, type: "
                             + on_device(spec, "ls /sys/devices/system/cpu/cpufreq")))
    if "Raspberry Pi" in (facts.get("board") or "") and sensed(facts, "throttled") is None:
        found.append(Finding("note", "without root, a Pi's firmware tells its throttling (and a Pi 5 its rails) to the "
                                     "group video only",
                             "no line of sudoers; log in again after: "
                             + on_device(spec, "sudo usermod -aG video $USER")))
    return found


def _heat(spec: DeviceSpec, facts: Mapping[str, Any]) -> list[Finding]:
    if not sensed(facts, "throttled"):
        return []
    return [Finding("warning", f"it throttles now ({thermal(facts)}), so latencies are those of a hot device",
                    f"cool it or give it its own supply, then type: edgefleet doctor {spec.name}")]


def _clocks(spec: DeviceSpec, facts: Mapping[str, Any]) -> list[Finding]:
    hardware = facts.get("hardware") or {}
    moving = sorted({one["governor"] for one in hardware.get("clocks", ()) if one.get("governor")} - set(STEADY))
    if not moving or spec.transport == "adb":   # a phone's are its own: there is no sudo
        return []
    text = f"governor {', '.join(moving)}: clocks follow the load, as they do in use; without root they cannot be fixed"
    if "Jetson" in (facts.get("board") or ""):
        mode = hardware.get("power_mode")
        return [Finding("note", text + (f" (power mode {mode})" if mode else ""), _sudo(
            spec, '/usr/sbin/nvpmodel -m 0, /usr/bin/jetson_clocks ""', "sudo nvpmodel -m 0 && sudo jetson_clocks"))]
    if "performance" not in hardware.get("governors", ()):
        return []
    files = " ".join(f"/sys/devices/system/cpu/cpufreq/{one['policy']}/scaling_governor" for one in hardware["clocks"])
    return [Finding("note", text, _sudo(spec, f"/usr/bin/tee {files}", f"echo performance | sudo tee {files}"))]


def _sudo(spec: DeviceSpec, allowed: str, command: str) -> str:
    """One line of sudoers, and what it then allows without a password. Exact words: a * there would take any path."""
    return (f"one line in `sudo visudo -f /etc/sudoers.d/edgefleet` there would add it: {spec.user or 'YOU'} "
            f"ALL=(root) NOPASSWD: {allowed}; then, after each boot, type: {on_device(spec, command)}")


def _energy(spec: DeviceSpec, facts: Mapping[str, Any]) -> list[Finding]:
    shut = (facts.get("hardware") or {}).get("shut") or ()
    found = []
    if shut:
        files = " ".join(shut)
        found.append(Finding("note", "joules by RAPL are there, and without root cannot be read", _sudo(
            spec, "/bin/chmod o+r " + files.replace(":", "\\:"), f"sudo chmod o+r {files}")))
    real = [name for name, one in facts.get("energy", {}).items() if one.get("provenance") != "modelled"]
    if real or shut or spec.transport == "simulated":
        return found
    again = f"then type: edgefleet doctor {spec.name}"
    if spec.power_model is not None:
        return [Finding("note", "joules are modelled from power_model and enter no comparison",
                        f"attach a meter or a board with a power sensor to measure them, {again}")]
    return [Finding("note", "no energy source, so tables have no joules of it",
                    f"state power_model = {{ idle_w, busy_w, source }} in fleet.toml for modelled joules, {again}")]


def _room(spec: DeviceSpec, facts: Mapping[str, Any]) -> list[Finding]:
    found = []
    disk_mb, memory_mb = facts.get("disk_free_mb"), facts.get("mem_total_mb")
    if disk_mb is not None and disk_mb < LOW_DISK_MB:
        found.append(Finding("warning", f"only {disk_mb:.0f} MiB are free on its disk",
                             f"bundles go first, type: edgefleet device gc {spec.name} --max-age-days 0"))
    if memory_mb is not None and memory_mb < LOW_MEMORY_MB:
        found.append(Finding("warning", f"only {memory_mb:.0f} MiB of memory",
                             "write residency = \"one\" below [trial] in the campaign, then type: edgefleet plan "
                             "CAMPAIGN.toml"))
    return found


def _wall(spec: DeviceSpec, facts: Mapping[str, Any]) -> list[Finding]:
    off_s = 0.0 if spec.transport == "simulated" else abs(skew_s(facts) or 0.0)
    if off_s <= CLOCK_SKEW_S:
        return []
    command = "settings put global auto_time 1" if spec.transport == "adb" else "sudo timedatectl set-ntp true"
    return [Finding("warning", f"its wall clock differs by {off_s:.0f} s (durations do not depend on it)",
                    f"type: {on_device(spec, command)}")]


def _link(spec: DeviceSpec, facts: Mapping[str, Any]) -> list[Finding]:
    link = facts.get("link") or {}
    rtt_ms, rate = link.get("rtt_ms"), link.get("push_mb_s")
    again = f"then type: edgefleet doctor {spec.name}"
    found = []
    if link.get("reason"):
        found.append(Finding("note", f"its link was not measured: {link['reason']}", f"mend or wait, {again}"))
    if rtt_ms is not None and rtt_ms > FAR_LINK_MS:
        found.append(Finding("note", f"a command takes {rtt_ms:.0f} ms to it and back: trials follow each other slower",
                             f"give it a cable or a nearer controller, {again}"))
    if rate is not None and rate < SLOW_LINK_MB_S:
        found.append(Finding("note", f"a push gets {rate:.2f} MB/s: 50 MB take {50 / rate / 60:.0f} min",
                             f"give it a cable rather than Wi-Fi, USB 3 rather than 2, {again}"))
    return found
