"""Log in to a host as the user's OpenSSH would: by its configuration, its keys, known hosts, ProxyJump, ProxyCommand.

Called by transports/ssh.py. Every socket is ours, with TCP_NODELAY: paramiko leaves Nagle on, which costs 40 ms an
exchange. Refuses unknown and changed host keys whatever StrictHostKeyChecking says. Keep-alive settings are not taken
over: an idle connection is silent.
"""
import contextlib
import logging
import random
import shlex
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import paramiko

from harness.cable.ssh_config import Login, login_for
from harness.cable.ssh_keys import Offer
from harness.cable.ssh_proxy import ProxySocket
from harness.errors import ConfigError, DeviceRefused, DeviceUnreachable

CONNECT_S = 20.0                                # one attempt: TCP, key exchange and authentication
PATIENCE_S = 30.0                               # all attempts at a host that drops connections (MaxStartups)
JUMPS_MAX = 8                                   # one after another; more are a circle
_WAY = ", by way of "

logging.getLogger("paramiko").addHandler(logging.NullHandler())    # its threads would print tracebacks to stderr


class Connection:
    """An authenticated connection and the ones that it goes through, the nearest last."""

    def __init__(self, *clients: paramiko.SSHClient) -> None:
        self._clients = clients

    @property
    def transport(self) -> paramiko.Transport:
        """paramiko's end of the connection to the device itself."""
        transport = self._clients[0].get_transport()
        if transport is None:
            raise EOFError
        return transport

    def through(self, hops: "Connection | None") -> "Connection":
        return self if hops is None else Connection(*self._clients, *hops._clients)

    def close(self) -> None:
        for client in self._clients:
            client.close()


def connect(login: Login, device: str, deadline_s: float) -> Connection:
    """A live connection, proven by its host key and ours. A host that drops it at once is asked again, with jitter.

    Raises DeviceUnreachable, or DeviceRefused when a host key or a login needs a person.
    """
    give_up = time.monotonic() + min(deadline_s, PATIENCE_S)
    pause_s = 0.1
    while True:
        try:
            return _connect_once(login, device, max(0.1, give_up - time.monotonic()))
        except (EOFError, OSError, paramiko.SSHException) as error:
            if time.monotonic() + pause_s > give_up:
                raise DeviceUnreachable(f"{device}: {login.host}:{login.port} drops the connection "
                                        f"({_words(error)}); is its sshd overloaded, or no sshd at all?") from None
            time.sleep(random.uniform(0.5, 1.5) * pause_s)
            pause_s = min(2.0, pause_s * 2)


class _PromptSocket(socket.socket):
    """Acknowledges at once and sends at once: sshd has Nagle on, so a delayed acknowledgement costs a login 40 ms."""

    def recv(self, *arguments: int) -> bytes:
        data = super().recv(*arguments)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)     # holds until the kernel changes its mind
        return data


def _transport(link: Any, **options: Any) -> paramiko.Transport:
    """paramiko's, with the ciphers first that need no second pass for a checksum."""
    transport = paramiko.Transport(link, **options)
    offered = transport.get_security_options()
    offered.ciphers = sorted(offered.ciphers, key=lambda name: "-gcm@" not in name)
    return transport


def _connect_once(login: Login, device: str, deadline_s: float) -> Connection:
    wait_s = min(CONNECT_S, deadline_s)
    client = paramiko.SSHClient()
    revoked = _know(client.get_host_keys(), login.known_hosts)
    client.set_missing_host_key_policy(_Refuse(login, device, revoked))
    offer = Offer(login)
    link, hops = _socket(login, device, wait_s)
    try:
        client.connect(login.known_as, 22, username=login.user, sock=link, timeout=wait_s, banner_timeout=wait_s,
                       auth_timeout=wait_s, channel_timeout=wait_s, transport_factory=_transport, auth_strategy=offer)
    except BaseException as error:
        # What letting go meets must not stand in the error's place: a Ctrl-C would be taken for a lost connection.
        with contextlib.suppress(Exception):
            Connection(client).through(hops).close()
        try:
            if isinstance(error, paramiko.BadHostKeyException) and error.key in revoked:
                raise DeviceRefused(_revoked_key(login, device, error.key)) from None
            _explain(login, device, offer, link, error)
        finally:
            with contextlib.suppress(OSError):
                link.close()
    return Connection(client).through(hops)


def _know(keys: Any, files: Iterable[Path]) -> frozenset[Any]:
    """What known_hosts files say. A line that cannot be read (cut, damaged) is skipped, as ssh does.

    Returns the keys that a line takes back (@revoked), for whatever host: they are known nowhere.
    """
    lines: list[str] = []
    for path in files:
        try:
            lines += path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:                         # not there yet, most of the time
            continue
    found, revoked = [], set()
    for line in reversed(lines):                # of two keys of one kind the first counts
        bare = line.strip().removeprefix("@revoked")
        try:
            entry = paramiko.hostkeys.HostKeyEntry.from_line(bare.strip())
        except Exception:                       # what is in the line decides what paramiko raises
            continue
        if entry is not None and bare != line.strip():
            revoked.add(entry.key)
        elif entry is not None:
            found.append(entry)
    for entry in found:
        for name in entry.hostnames if entry.key not in revoked else ():
            keys.add(name, entry.key.get_name(), entry.key)
    return frozenset(revoked)


def _explain(login: Login, device: str, offer: Offer, link: Any, error: BaseException) -> NoReturn:
    """What a person can act on; everything else goes on as it is."""
    if isinstance(error, paramiko.BadHostKeyException):
        raise DeviceRefused(_changed_key(login, device, error)) from None
    if not isinstance(error, paramiko.AuthenticationException):
        if isinstance(link, ProxySocket) and isinstance(error, EOFError | OSError | paramiko.SSHException):
            link.explain(device)
        if isinstance(error, TimeoutError):
            raise DeviceUnreachable(f"{device}: {login.host}:{login.port} accepts but says nothing") from None
        raise error
    if "timeout" in str(error).lower():
        raise DeviceUnreachable(f"{device}: no end to the authentication at {login.host}:{login.port}") from None
    if offer.locked:
        raise DeviceRefused(f"{device}: a key has a passphrase ({', '.join(offer.locked)}); {offer.unlock()}") from None
    raise DeviceRefused(
        f"{device}: {login.host} refuses the login {login.user!r} (keys: {offer.words()}). "
        f"Bring it a key of yours: ssh-copy-id -p {login.port} {login.user}@{login.host}") from None


def _socket(login: Login, device: str, wait_s: float) -> tuple[Any, Connection | None]:
    """A socket, or something like one through the hosts of ProxyJump or the process of ProxyCommand."""
    if login.jumps:
        *before, last = login.jumps
        user, _, address = last.rpartition("@")
        bare, colon, port = address.rpartition(":")         # ssh -G sets addresses in brackets: [10.0.0.7]:22
        host, port = (bare.strip("[]"), port) if colon and port.isdigit() else (address.strip("[]"), "")
        if device.count(_WAY) >= JUMPS_MAX:
            raise ConfigError(f"{device}: the ProxyJump lines of these hosts lead in a circle; see: ssh -G {host}")
        hop = login_for(host, user or None, int(port) if port else None, login.config_file)
        try:
            hops = _connect_once(hop._replace(jumps=tuple(before) or hop.jumps), f"{device}{_WAY}{host}", wait_s)
        except (EOFError, OSError, paramiko.SSHException) as error:     # asked again, as the device itself would be
            raise paramiko.SSHException(f"{host}, on the way there: {_words(error)}") from None
        try:
            channel = hops.transport.open_channel("direct-tcpip", (login.host, login.port), ("127.0.0.1", 0),
                                                  timeout=wait_s)
        except (EOFError, OSError, paramiko.SSHException) as error:
            hops.close()
            raise DeviceUnreachable(f"{device}: {host} cannot reach {login.host}:{login.port}: "
                                    f"{_words(error)}") from None
        return channel, hops
    if login.proxy_command:
        try:
            return ProxySocket(login.proxy_command), None
        except OSError as error:
            raise DeviceRefused(f"{device}: the shell for its ProxyCommand cannot be started ({error}); "
                                "does $SHELL name one?") from None
    try:
        link = socket.create_connection((login.host, login.port), timeout=wait_s)
    except OSError as error:
        raise DeviceUnreachable(f"{device}: no SSH at {login.host}:{login.port} ({_words(error)}). "
                                "Is it on, and on this network?") from None
    prompt = _PromptSocket(fileno=link.detach())
    prompt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    prompt.settimeout(wait_s)
    return prompt, None


class _Refuse:
    """Says which line would make the host known, and how to check that it is the right one."""

    def __init__(self, login: Login, device: str, revoked: frozenset[Any]) -> None:
        self._login, self._device, self._revoked = login, device, revoked

    def missing_host_key(self, _client: Any, _hostname: str, key: Any) -> None:
        if key in self._revoked:
            raise DeviceRefused(_revoked_key(self._login, self._device, key))
        file = self._login.known_hosts[0] if self._login.known_hosts else Path("~/.ssh/known_hosts")
        raise DeviceRefused(
            f"{self._device}: the host key of {self._login.host} is not known. Its fingerprint: {key.fingerprint}\n"
            f"Compare it on the device: ssh-keygen -lf /etc/ssh/ssh_host_{_file_of(key)}_key.pub\n"
            f"Then add this line to {file}:\n{_line(self._login, key)}")


def _changed_key(login: Login, device: str, error: paramiko.BadHostKeyException) -> str:
    file = login.known_hosts[0] if login.known_hosts else Path("~/.ssh/known_hosts")
    return (f"{device}: THE HOST KEY OF {login.host} HAS CHANGED (now {error.key.fingerprint}, known is "
            f"{error.expected_key.fingerprint}): another machine answers, or it was installed anew. If it was, "
            f"type: ssh-keygen -f {shlex.quote(str(file))} -R {shlex.quote(login.known_as)}\n"
            f"and add this line to {file}:\n{_line(login, error.key)}")


def _revoked_key(login: Login, device: str, key: Any) -> str:
    files = " ".join(shlex.quote(str(path)) for path in login.known_hosts)
    return (f"{device}: {login.host} shows a host key that a line @revoked of known_hosts takes back "
            f"({key.fingerprint}). Who has that key may not be your device. Give it a new one (there, as root: "
            f"rm /etc/ssh/ssh_host_{_file_of(key)}_key* && ssh-keygen -A), or, if the key was never lost, remove the "
            f"line: grep -sn @revoked {files}")


def _line(login: Login, key: Any) -> str:
    return f"{login.known_as} {key.get_name()} {key.get_base64()}"


def _file_of(key: Any) -> str:
    """ssh-ed25519 -> ed25519, ecdsa-sha2-nistp256 -> ecdsa."""
    parts = str(key.get_name()).split("-")
    return parts[0] if parts[0] != "ssh" else parts[1]


def _words(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
