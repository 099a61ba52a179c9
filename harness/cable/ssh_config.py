"""What OpenSSH's configuration says of a host. `ssh -G` evaluates it: Include and Match mean what they mean to ssh.

Called by ssh_login.py and transports/ssh.py. ssh itself expands tokens only when it connects (%h and the like in
ProxyCommand and IdentityFile), so that is done here. Facts only, no connection. Refuses what ssh refuses, and a token
that is not known.
"""
import getpass
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from harness.errors import ConfigError, DeviceRefused
from harness.fleet import DeviceSpec

CONFIG_S = 10.0
NO_AGENT, USUAL_AGENT = "none", "SSH_AUTH_SOCK"


class Login(NamedTuple):
    """`known_as` is the name under which known_hosts has it. `agent` is a socket's path, USUAL_AGENT or NO_AGENT."""

    host: str
    port: int
    user: str
    known_as: str
    key_files: tuple[str, ...]
    known_hosts: tuple[Path, ...]
    identities_only: bool
    agent: str
    jumps: tuple[str, ...]
    proxy_command: str
    config_file: str | None


def login_of(spec: DeviceSpec) -> Login:
    """Raises ConfigError: no host, no ssh program, a config that ssh refuses. DeviceRefused: one that does not end."""
    if not spec.host:
        raise ConfigError(f"{spec.name}: transport \"ssh\" needs `host` in fleet.toml; a name of ~/.ssh/config will do")
    config_file = str(Path(spec.ssh_config).expanduser()) if spec.ssh_config else None
    return login_for(spec.host, spec.user, spec.port, config_file)


def login_for(host: str, user: str | None, port: int | None, config_file: str | None) -> Login:
    """Of a device's host, or of one on the way there."""
    said = _evaluated(host, user, port, config_file)

    def one(key: str, default: str = "") -> str:
        return said.get(key, [default])[0]

    def some(key: str) -> str:
        return "" if one(key) == "none" else one(key)

    name, number, alias = one("hostname", host), int(one("port", "22")), some("hostkeyalias")
    known_as = alias or (name.lower() if number == 22 else f"[{name.lower()}]:{number}")
    tokens = _tokens(host, name, number, one("user"), alias or name, some("proxyjump"))
    return Login(
        host=name, port=number, user=one("user"), known_as=known_as,
        key_files=tuple(_path(value, tokens) for value in said.get("identityfile", ()) if value != "none"),
        known_hosts=tuple(Path(_path(value, tokens)) for key in ("userknownhostsfile", "globalknownhostsfile")
                          for value in _listed(some(key))),
        identities_only=one("identitiesonly") == "yes", agent=_agent(one("identityagent", USUAL_AGENT), tokens),
        jumps=tuple(some("proxyjump").split(",")) if some("proxyjump") else (),
        proxy_command=_expanded(some("proxycommand"), tokens), config_file=config_file)


def _evaluated(host: str, user: str | None, port: int | None, config_file: str | None) -> dict[str, list[str]]:
    """Every key that ssh knows, with its values."""
    program = shutil.which("ssh")
    if program is None:
        raise ConfigError("transport \"ssh\" needs OpenSSH's client, which reads ~/.ssh/config; type: "
                          "apt-get install openssh-client")
    argv = [program, "-G", *(["-F", config_file] if config_file else []), *(["-l", user] if user else []),
            *(["-p", str(port)] if port else []), "--", host]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=CONFIG_S, check=False)
    except subprocess.TimeoutExpired:
        raise DeviceRefused(f"the ssh configuration for {host} takes longer than {CONFIG_S:.0f} s to evaluate; is "
                            f"there a `Match exec` that waits? Try it: {shlex.join(argv)}") from None
    if done.returncode:
        raise ConfigError(f"ssh refuses its configuration for {host}: {done.stderr.strip()}")
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key, []).append(value)
    return said


def _tokens(asked: str, name: str, port: int, user: str, key_name: str, jump: str) -> dict[str, str]:
    """ssh_config(5), TOKENS, but %C (its hash is another in each version) and those of KnownHostsCommand."""
    here = socket.gethostname()
    return {"%": "%", "h": name, "n": asked, "p": str(port), "r": user, "k": key_name, "j": jump, "l": here,
            "L": here.partition(".")[0], "u": getpass.getuser(), "i": str(os.getuid()), "d": str(Path.home())}


def _expanded(text: str, tokens: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] not in tokens:
            raise ConfigError(f"the ssh configuration for {tokens['n']} says {text!r}: the token %{found[1]} is not "
                              "understood here; write out what it stands for")
        return tokens[found[1]]

    return re.sub(r"%(.?)", value, text)


def _path(text: str, tokens: Mapping[str, str]) -> str:
    """~, ${VARIABLE} and tokens, as for IdentityFile and its like."""
    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ConfigError(f"the ssh configuration for {tokens['n']} says {text!r}: the variable {found[1]} is not "
                              "set; export it, or write out what it stands for")
        return os.environ[found[1]]

    return str(Path(_expanded(re.sub(r"\$\{(\w+)\}", value, text), tokens)).expanduser())


def _listed(value: str) -> list[str]:
    """The files that `ssh -G` names in one line, without quotes: a word that begins no path goes on with the last."""
    return re.split(r" (?=[/~])", value) if value[:1] in ("/", "~") else value.split()


def _agent(value: str, tokens: Mapping[str, str]) -> str:
    if value in (NO_AGENT, USUAL_AGENT):
        return value
    return os.environ.get(value[1:], "") or NO_AGENT if re.fullmatch(r"\$\w+", value) else _path(value, tokens)
