"""OpenSSH's sshd for one lab device: keys, configuration and the words that start it. Used by lab.py and loopback.py.

The configuration works for root in a namespace and for an ordinary user on a loopback port. MaxSessions and MaxStartups
keep their defaults, because real boards have them and the transport must live with them.
"""
import shutil
import subprocess
from pathlib import Path

from harness.errors import ConfigError

PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
KEY = "id_ed25519"
HOST_KEY = "host_key"

_CONFIG = """\
Port {port}
ListenAddress {address}
HostKey {folder}/{host_key}
PidFile {folder}/sshd.pid
AuthorizedKeysFile {authorized}
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
ClientAliveInterval 0
LogLevel VERBOSE
"""


def sshd_program() -> str:
    """The absolute path, which sshd insists on. Raises ConfigError."""
    program = shutil.which("sshd", path=PLACES)
    if program is None or shutil.which("ssh-keygen") is None:
        raise ConfigError("the lab needs OpenSSH; type: apt-get install openssh-server openssh-client")
    return program


def make_login_key(folder: Path) -> Path:
    """The key pair that every device of a lab lets in; the private key's path."""
    return _keygen(folder / KEY)


def configure(folder: Path, address: str, port: int, authorized: Path) -> Path:
    """Writes host key and sshd_config into a device's folder; the latter's path."""
    if not (folder / HOST_KEY).exists():
        _keygen(folder / HOST_KEY)
    config = folder / "sshd_config"
    config.write_text(_CONFIG.format(port=port, address=address, folder=folder, host_key=HOST_KEY,
                                     authorized=authorized))
    return config


def renew_host_key(folder: Path) -> None:
    """Another key, as after a new installation."""
    (folder / HOST_KEY).unlink()
    _keygen(folder / HOST_KEY)


def known_hosts_line(folder: Path, address: str, port: int) -> str:
    kind, key = (folder / f"{HOST_KEY}.pub").read_text().split()[:2]
    return f"{address if port == 22 else f'[{address}]:{port}'} {kind} {key}\n"


def client_config(key: Path, known_hosts: Path) -> str:
    """An ssh_config that knows the lab and none of the user's own keys and hosts."""
    return f'Host *\n  IdentityFile "{key}"\n  IdentitiesOnly yes\n  UserKnownHostsFile "{known_hosts}"\n'


def _keygen(path: Path) -> Path:
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgefleet-lab", "-f", str(path)],
                       check=True, stdin=subprocess.DEVNULL)
    return path
