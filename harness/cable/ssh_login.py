"""How to log in to a host, as the user's OpenSSH would: config, keys, agent, known hosts, ProxyJump; then do it.

Called by transports/ssh.py. `ssh -G` evaluates the configuration, so that Include, Match and tokens mean what they
mean to ssh. Every socket is ours, with TCP_NODELAY: paramiko leaves Nagle on, which costs 40 ms an exchange. Refuses
unknown and changed host keys whatever StrictHostKeyChecking says. Keep-alive settings are not taken over: an idle
connection is silent.
"""
import logging
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import paramiko

from harness.errors import ConfigError, DeviceRefused, DeviceUnreachable
from harness.fleet import DeviceSpec

CONNECT_S = 20.0                                # one attempt: TCP, key exchange and authentication
PATIENCE_S = 30.0                               # all attempts at a host that drops connections (MaxStartups)
CONFIG_S = 10.0

logging.getLogger("paramiko").addHandler(logging.NullHandler())    # its threads would print tracebacks to stderr


class Login(NamedTuple):
    """What `ssh -G` says of one host. `known_as` is the name under which known_hosts has it."""

    host: str
    port: int
    user: str
    known_as: str
    key_files: tuple[str, ...]
    known_hosts: tuple[Path, ...]
    use_agent: bool
    jumps: tuple[str, ...]
    proxy_command: str
    config_file: str | None


def login_of(spec: DeviceSpec) -> Login:
    """Facts only, no connection. Raises ConfigError: no host, no ssh program, a config that ssh refuses."""
    if not spec.host:
        raise ConfigError(f"{spec.name}: transport \"ssh\" needs `host` in fleet.toml; a name of ~/.ssh/config will do")
    config_file = str(Path(spec.ssh_config).expanduser()) if spec.ssh_config else None
    return _login(spec.host, spec.user, spec.port, config_file)


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
        except (EOFError, ConnectionResetError, paramiko.SSHException) as error:
            if time.monotonic() + pause_s > give_up or isinstance(error, paramiko.AuthenticationException):
                raise DeviceUnreachable(f"{device}: {login.host}:{login.port} drops the connection "
                                        f"({_words(error)}); is its sshd overloaded, or no sshd at all?") from None
            time.sleep(random.uniform(0.5, 1.5) * pause_s)
            pause_s = min(2.0, pause_s * 2)


def _login(host: str, user: str | None, port: int | None, config_file: str | None) -> Login:
    program = shutil.which("ssh")
    if program is None:
        raise ConfigError("transport \"ssh\" needs OpenSSH's client, which reads ~/.ssh/config; type: "
                          "apt-get install openssh-client")
    argv = [program, "-G", *(["-F", config_file] if config_file else []), *(["-l", user] if user else []),
            *(["-p", str(port)] if port else []), "--", host]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CONFIG_S, check=False)
    if done.returncode:
        raise ConfigError(f"ssh refuses its configuration for {host}: {done.stderr.strip()}")
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key, []).append(value)

    def one(key: str, default: str = "") -> str:
        value = said.get(key, [default])[0]
        return default if value == "none" else value

    name, number = one("hostname", host), int(one("port", "22"))
    known_files = (*one("userknownhostsfile").split(), *one("globalknownhostsfile").split())
    return Login(
        host=name, port=number, user=one("user"),
        known_as=one("hostkeyalias") or (name.lower() if number == 22 else f"[{name.lower()}]:{number}"),
        key_files=tuple(str(Path(path).expanduser()) for path in said.get("identityfile", ())),
        known_hosts=tuple(Path(path).expanduser() for path in known_files),
        use_agent=one("identitiesonly", "no") != "yes" and one("identityagent", "SSH_AUTH_SOCK") == "SSH_AUTH_SOCK",
        jumps=tuple(one("proxyjump").split(",")) if one("proxyjump") else (),
        proxy_command=one("proxycommand"), config_file=config_file)


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
    for path in login.known_hosts:
        if path.is_file():
            client.load_system_host_keys(str(path))
    client.set_missing_host_key_policy(_Refuse(login, device))
    keys = [path for path in login.key_files if Path(path).is_file()]
    link, hops = _socket(login, device, wait_s)
    try:
        client.connect(login.known_as, 22, username=login.user, key_filename=keys, sock=link, timeout=wait_s,
                       banner_timeout=wait_s, auth_timeout=wait_s, channel_timeout=wait_s, allow_agent=login.use_agent,
                       look_for_keys=False, transport_factory=_transport)
    except BaseException as error:
        Connection(client).through(hops).close()
        link.close()
        _explain(login, device, keys, error)
    return Connection(client).through(hops)


def _explain(login: Login, device: str, keys: list[str], error: BaseException) -> NoReturn:
    """What a person can act on; everything else goes on as it is."""
    if isinstance(error, paramiko.BadHostKeyException):
        raise DeviceRefused(_changed_key(login, device, error)) from None
    if isinstance(error, paramiko.PasswordRequiredException):
        raise DeviceRefused(f"{device}: a key of {', '.join(keys)} has a passphrase; type: ssh-add") from None
    if isinstance(error, TimeoutError):
        raise DeviceUnreachable(f"{device}: {login.host}:{login.port} accepts but says nothing") from None
    if not isinstance(error, paramiko.AuthenticationException):
        raise error
    if "timeout" in str(error).lower():
        raise DeviceUnreachable(f"{device}: no end to the authentication at {login.host}:{login.port}") from None
    tried = ", ".join(keys) + ("" if keys else "no key file is there") + (" and the agent's" if login.use_agent else "")
    raise DeviceRefused(
        f"{device}: {login.host} refuses the login {login.user!r} (keys: {tried}). "
        f"Bring it a key of yours: ssh-copy-id -p {login.port} {login.user}@{login.host}") from None


def _socket(login: Login, device: str, wait_s: float) -> tuple[Any, Connection | None]:
    """A socket, or something like one through the hosts of ProxyJump or the process of ProxyCommand."""
    if login.jumps:
        *before, last = login.jumps
        user, _, address = last.rpartition("@")
        bare, colon, port = address.rpartition(":")         # ssh -G sets addresses in brackets: [10.0.0.7]:22
        host, port = (bare.strip("[]"), port) if colon and port.isdigit() else (address.strip("[]"), "")
        hop = _login(host, user or None, int(port) if port else None, login.config_file)
        hops = _connect_once(hop._replace(jumps=tuple(before) or hop.jumps), f"{device}, by way of {host}", wait_s)
        try:
            channel = hops.transport.open_channel("direct-tcpip", (login.host, login.port), ("127.0.0.1", 0),
                                                  timeout=wait_s)
        except paramiko.SSHException as error:
            hops.close()
            raise DeviceUnreachable(f"{device}: {host} cannot reach {login.host}:{login.port}: "
                                    f"{_words(error)}") from None
        return channel, hops
    if login.proxy_command:
        return paramiko.ProxyCommand(login.proxy_command), None
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

    def __init__(self, login: Login, device: str) -> None:
        self._login, self._device = login, device

    def missing_host_key(self, _client: Any, _hostname: str, key: Any) -> None:
        file = self._login.known_hosts[0] if self._login.known_hosts else Path("~/.ssh/known_hosts")
        raise DeviceRefused(
            f"{self._device}: the host key of {self._login.host} is not known. Its fingerprint: {key.fingerprint}\n"
            f"Compare it on the device: ssh-keygen -lf /etc/ssh/ssh_host_{_file_of(key)}_key.pub\n"
            f"Then add this line to {file}:\n{_line(self._login, key)}")


def _changed_key(login: Login, device: str, error: paramiko.BadHostKeyException) -> str:
    file = login.known_hosts[0] if login.known_hosts else Path("~/.ssh/known_hosts")
    return (f"{device}: THE HOST KEY OF {login.host} HAS CHANGED (now {error.key.fingerprint}, known is "
            f"{error.expected_key.fingerprint}): another machine answers, or it was installed anew. If it was, type: "
            f"ssh-keygen -f {file} -R '{login.known_as}'\nand add this line to {file}:\n{_line(login, error.key)}")


def _line(login: Login, key: Any) -> str:
    return f"{login.known_as} {key.get_name()} {key.get_base64()}"


def _file_of(key: Any) -> str:
    """ssh-ed25519 -> ed25519, ecdsa-sha2-nistp256 -> ecdsa."""
    parts = str(key.get_name()).split("-")
    return parts[0] if parts[0] != "ssh" else parts[1]


def _words(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
