"""A virtual fleet: `up` makes it and writes fleet.toml, known_hosts and a state file; `down` leaves nothing behind.

Called by cli/lab.py, faults.py and tests. With root: sshd and adbd devices in namespaces of their own (box.py).
Without: sshd devices on loopback. Devices share this machine's cores: their group allows one measured window at a time.
The state file is written before anything is made, so that `down` also clears away what a failed `up` left.
"""
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from harness.errors import ConfigError
from harness.lab import lab_folder, loopback, phone, sshd
from harness.lab.adbd_build import adbd
from harness.lab.board import Board, boards
from harness.lab.box import Box
from harness.lab.network import Network, claiming, free_subnet

STATE = "lab.json"
POINTER = "pointer"                             # names the link that point_here made
DISK_MB = 768
ADB_PORT = 5200                                 # of this lab's adb server: plus the subnet
INSIDE = "etc/edgefleet-lab"                    # on a device: what its services need of the lab
WARM_S = 60.0
SOCKETS = Path("/run")                          # of slow links: a socket's path may have 107 characters only
_PORTS = {"phone": phone.PORT}

Say = Callable[[str], None]


class Member(NamedTuple):
    """One device. `place` is its number at the switch, `port` that of its sshd or adbd."""

    name: str
    kind: str
    place: int
    address: str
    port: int


class Lab:
    """A lab that is up. `folder` holds all its files; two labs in two folders do not disturb each other."""

    def __init__(self, folder: Path, mode: str, subnet: int, members: tuple[Member, ...]) -> None:
        self.folder, self.mode, self.members = folder, mode, members
        self.tag = "ef" + hashlib.sha256(str(folder).encode()).hexdigest()[:5]
        self.network = Network(self.tag, subnet)

    @property
    def fleet(self) -> Path:
        """The fleet.toml that names every device."""
        return self.folder / "fleet.toml"

    def point_here(self, link: Path) -> bool:
        """Make `link` lead to the fleet file until the lab is down; False where something is there already."""
        try:
            link.symlink_to(self.fleet)
        except FileExistsError:
            return False
        (self.folder / POINTER).write_text(str(link.absolute()))
        return True

    def member(self, name: str) -> Member:
        for member in self.members:
            if member.name == name:
                return member
        raise ConfigError.unknown("lab device", name, [member.name for member in self.members], str(self.fleet))

    def box(self, name: str) -> Box:
        """The machine behind a name. Raises ConfigError for a loopback device, which is none."""
        if self.mode != "namespaces":
            raise ConfigError(f"{name} is a loopback device: it has no link, disk or power of its own; "
                              "start the lab as root for that")
        member = self.member(name)
        return Box(member.name, self.folder / "devices" / name, self.network.namespace(name), self.tag)

    def adb_environment(self) -> dict[str, str]:
        """Of the adb program: a server and keys of the lab's own."""
        return {"ANDROID_ADB_SERVER_PORT": str(ADB_PORT + self.network.subnet), "HOME": str(self.folder / "adb")}

    def write_known_hosts(self) -> None:
        """Of all ssh devices, as their keys are now."""
        lines = [sshd.known_hosts_line(self.folder / "devices" / member.name, member.address, member.port)
                 for member in self.members if member.kind != "phone"]
        (self.folder / "known_hosts").write_text("".join(lines))


def default_folder(home: Path) -> Path:
    return home / "lab"


def up(folder: Path, ssh: int, adb: int, cache: Path, say: Say, unprivileged: bool = False) -> Lab:
    """Make a lab of `ssh` boards and `adb` phones. Raises ConfigError, having cleared away what was made."""
    if (folder / STATE).exists():
        raise ConfigError(f"a lab is up already in {folder}; end it first: edgefleet lab down")
    if ssh + adb < 1:
        raise ConfigError("a lab needs at least one device: --ssh 1")
    if not unprivileged and os.geteuid() != 0:
        raise ConfigError(f"namespaces, links and phones need root: sudo edgefleet lab up --ssh {ssh} --adb {adb}\n"
                          f"Without root there are sshd devices on loopback: edgefleet lab up --loopback "
                          f"--ssh {ssh or 2} --adb 0")
    if unprivileged and adb:
        raise ConfigError("phones need root, because adbd listens on every address; --loopback goes with --adb 0")
    lab_folder.claim(folder)
    mode = "loopback" if unprivileged else "namespaces"
    try:
        lab = _save(Lab(folder.resolve(), mode, 0, ())) if unprivileged else _networked(folder.resolve(), mode)
        return _up_loopback(lab, ssh) if unprivileged else _up_namespaces(lab, ssh, adb, cache, say)
    except BaseException:
        if (folder / STATE).exists():
            down(folder)
        raise


def _networked(folder: Path, mode: str) -> Lab:
    """A lab whose switch is there already, so that another that starts meanwhile sees its subnet taken."""
    with claiming():
        lab = _save(Lab(folder, mode, free_subnet(), ()))
        lab.network.create()
    return lab


def open_lab(folder: Path) -> Lab:
    """The lab that is up in `folder`. Raises ConfigError when none is."""
    bare = _without_members(folder)
    try:
        members = tuple(Member(**one) for one in json.loads((folder / STATE).read_text())["members"])
    except (KeyError, TypeError):
        raise ConfigError(f"the lab in {folder} was started by another version; type: edgefleet lab down") from None
    return Lab(bare.folder, bare.mode, bare.network.subnet, members)


def down(folder: Path) -> None:
    """End every process, namespace, mount and control group of the lab, then remove its folder."""
    lab = _without_members(folder)
    if lab.mode == "loopback":
        for one in sorted((lab.folder / "devices").glob("*")):
            loopback.stop(one)
    else:
        if shutil.which("adb"):
            environment = {**os.environ, **lab.adb_environment()}
            subprocess.run(["adb", "kill-server"], env=environment, capture_output=True, timeout=30, check=False)
        for wire in lab.folder.glob("wire-*.pid"):
            end_process(wire, "harness.lab.wire")
        for control in SOCKETS.glob(f"{lab.tag}-*.wire"):
            control.unlink()
        for one in sorted((lab.folder / "devices").glob("*")):
            Box(one.name, one, lab.network.namespace(one.name), lab.tag).destroy()
        lab.network.destroy()
    _remove_pointer(lab)
    lab_folder.remove(lab.folder, last=STATE)


def _remove_pointer(lab: Lab) -> None:
    with contextlib.suppress(OSError):
        link = Path((lab.folder / POINTER).read_text())
        if link.is_symlink() and link.readlink() == lab.fleet:
            link.unlink()


def boot(lab: Lab, name: str, slow: bool = False) -> None:
    """Plug a device in, behind its slow link if it has one, and switch it on."""
    lab.network.add(name, lab.member(name).place, slow)
    lab.box(name).start()


def end_process(pid_file: Path, word: str) -> None:
    """Kill the process that a file names, if it still is the one whose command line has `word`."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        if word in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    pid_file.unlink(missing_ok=True)


def _up_namespaces(lab: Lab, ssh: int, adb: int, cache: Path, say: Say) -> Lab:
    daemon = adbd(cache, say) if adb else None
    sshd.sshd_program()
    key = sshd.make_login_key(lab.folder)
    kinds = [boards()[number % len(boards())] for number in range(ssh)] + [phone.phone()] * adb
    names = _names([board.kind for board in kinds])
    members = tuple(Member(name, board.kind, place, lab.network.address(place), _PORTS.get(board.kind, 22))
                    for place, (name, board) in enumerate(zip(names, kinds)))
    lab = Lab(lab.folder, lab.mode, lab.network.subnet, members)
    _save(lab)
    for member, board in zip(members, kinds):
        box = lab.box(member.name)
        if board.kind == "phone":
            assert daemon is not None
            _furnish_phone(box, board, daemon)
        else:
            _furnish_board(box, board, member, key)
        box.cgroup.limit_memory(board.ram_mb)
        boot(lab, member.name)
    (lab.folder / "adb").mkdir()
    lab.write_known_hosts()
    (lab.folder / "ssh_config").write_text(sshd.client_config(key, lab.folder / "known_hosts"))
    lab.fleet.write_text(_fleet(lab, {board.kind: f"this machine, with fixtures of a {board.device_class}"
                                      for board in kinds}))
    return lab


def _furnish_board(box: Box, board: Board, member: Member, key: Path) -> None:
    box.folder.mkdir(parents=True)
    sshd.configure(box.folder, member.address, member.port, Path("/", INSIDE, "authorized_keys"))
    config = (box.folder / "sshd_config").read_text().replace(str(box.folder), f"/{INSIDE}")
    files = {**board.files, **_login(), f"{INSIDE}/sshd_config": config, f"{INSIDE}/env": "",
             f"{INSIDE}/host_key": (box.folder / sshd.HOST_KEY).read_text(),
             f"{INSIDE}/authorized_keys": key.with_suffix(".pub").read_text()}
    box.create(files, board.sys_files, DISK_MB,
               [f"{sshd.sshd_program()} -D -f /{INSIDE}/sshd_config -E /var/log/sshd.log"])
    (box.folder / "disk/upper" / INSIDE / "host_key").chmod(0o600)


def _furnish_phone(box: Box, board: Board, daemon: Path) -> None:
    box.folder.mkdir(parents=True)
    box.create({**board.files, **_login()}, board.sys_files, DISK_MB,
               [f"cd {phone.HOME}; HOME={phone.HOME} ADBD_PORT={phone.PORT} setsid /{INSIDE}/adbd/adbd"])
    shutil.copytree(daemon.parent, box.folder / "disk/upper" / INSIDE / "adbd", symlinks=True)


def _login() -> dict[str, str]:
    """This machine's users, of whom root has a home and a shell of the device's own."""
    lines = Path("/etc/passwd").read_text().splitlines()
    users = [line for line in lines if not line.startswith("root:")]
    return {"etc/passwd": "\n".join(["root:x:0:0:root:/home/device:/bin/sh", *users, ""]), "home/device/.keep": ""}


def _up_loopback(lab: Lab, ssh: int) -> Lab:
    key = sshd.make_login_key(lab.folder)
    authorized = lab.folder / "authorized_keys"
    shutil.copyfile(key.with_suffix(".pub"), authorized)
    members: list[Member] = []
    for index in range(ssh):
        name = f"loop-{_letter(index)}"
        port = loopback.start(lab.folder / "devices" / name, authorized)
        members.append(Member(name, "loopback", index, loopback.ADDRESS, port))
    lab = Lab(lab.folder, lab.mode, 0, tuple(members))
    _save(lab)
    lab.write_known_hosts()
    (lab.folder / "ssh_config").write_text(sshd.client_config(key, lab.folder / "known_hosts"))
    lab.fleet.write_text(_fleet(lab, {"loopback": "this machine"}))
    return lab


def _fleet(lab: Lab, device_class: dict[str, str]) -> str:
    lines = ["# Written by `edgefleet lab up`: a virtual fleet. Sensors are fixtures, processors are this machine's.",
             "[groups.lab]", "limit = 1                                       # they share this machine's cores"]
    for member in lab.members:
        lines += ["", f"[devices.{member.name}]"]
        if member.kind == "phone":
            environment = ", ".join(f"{name} = {json.dumps(value)}" for name, value in lab.adb_environment().items())
            lines += ['transport = "adb"', f'serial = "{member.address}:{member.port}"',
                      f"env = {{ {environment} }}"]
        else:
            lines += ['transport = "ssh"', f'host = "{member.address}"', f"port = {member.port}",
                      f"ssh_config = {json.dumps(str(lab.folder / 'ssh_config'))}"]
        if member.kind == "loopback":
            lines.append(f"home = {json.dumps(str(lab.folder / 'devices' / member.name / 'agent'))}")
        lines += [f"python = {json.dumps(sys.executable)}", 'groups = ["lab"]', f'tags = ["lab", "{member.kind}"]',
                  f'device_class = "{device_class[member.kind]}"', f"warm_s = {WARM_S}"]
    return "\n".join([*lines, ""])


def _names(kinds: list[str]) -> list[str]:
    """lab-nano-a, lab-orin-a, ..., lab-nano-b: no table shall take one for the board that it imitates."""
    return [f"lab-{kind}-{_letter(kinds[:index].count(kind))}" for index, kind in enumerate(kinds)]


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else f"z{number}"


def _without_members(folder: Path) -> Lab:
    """All that `down` needs, whatever became of the rest."""
    try:
        value = json.loads((folder / STATE).read_text())
        return Lab(folder.resolve(), str(value["mode"]), int(value["subnet"]), ())
    except FileNotFoundError:
        raise ConfigError(f"no lab is up in {folder}; start one: edgefleet lab up") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder / STATE} is no state file of a lab; remove the folder by hand") from None


def _save(lab: Lab) -> Lab:
    state = {"mode": lab.mode, "subnet": lab.network.subnet, "members": [dict(one._asdict()) for one in lab.members]}
    part = lab.folder / f"{STATE}.part"
    part.write_text(json.dumps(state, indent=1))
    part.replace(lab.folder / STATE)
    return lab
