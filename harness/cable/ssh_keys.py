"""Which keys a host is offered, in OpenSSH's order: those of an agent that the configuration names, the agent's others
unless IdentitiesOnly, then key files.

Called by ssh_login.py, as paramiko's `auth_strategy`. A key with a passphrase is used by way of an agent: which of its
keys is meant, the public half says, which lies beside the key or in it. Refuses to ask for a passphrase or a password.
"""
import base64
import os
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
from paramiko.agent import SSH2_AGENT_IDENTITIES_ANSWER, AgentKey, AgentSSH, cSSH2_AGENTC_REQUEST_IDENTITIES

from harness.cable.ssh_config import NO_AGENT, USUAL_AGENT, Login

AGENT_S = 20.0                                  # an agent may ask its owner
_MAGIC = b"openssh-key-v1\0"


class Offer:
    """One login. `tried` and `locked` (no one here to type the passphrase) tell what came of it."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self.tried: list[str] = []
        self.locked: list[str] = []
        self.unread: list[str] = []
        self.wants: list[str] = []

    def authenticate(self, transport: Any) -> None:
        """Raises AuthenticationException when no key does, EOFError when the connection ends meanwhile."""
        agent = _agent(self._login)
        try:
            for name, key in self._keys(agent):
                self.tried.append(name)
                if self._accepted(transport, key):
                    return
        finally:
            if agent is not None:
                agent.close()
        raise paramiko.AuthenticationException("no key was accepted")

    def _accepted(self, transport: Any, key: Any) -> bool:
        try:
            self.wants = transport.auth_publickey(self._login.user, key)
            return not self.wants
        except paramiko.SSHException as error:  # refused, or of a kind that the two do not have in common
            if "timeout" in str(error).lower():
                raise
            if not transport.is_active() and len(self.tried) == 1:      # after more than one it is MaxAuthTries
                raise EOFError from None
            if not transport.is_active():
                raise paramiko.AuthenticationException("too many keys") from None
            return False

    def _keys(self, agent: "_Agent | None") -> Iterator[tuple[str, Any]]:
        held = {key.asbytes(): key for key in agent.get_keys()} if agent is not None else {}
        files = [path for path in self._login.key_files if Path(path).is_file() or Path(f"{path}.pub").is_file()]
        halves = {path: _public_half(path) for path in files}
        for path, half in halves.items():
            if half in held:
                yield f"{path} by way of the agent", held[half]
        if not self._login.identities_only:
            for half, key in held.items():
                if half not in halves.values():
                    yield f"the agent's {key.comment or key.get_name()}", key
        for path in files:
            if halves[path] not in held or Path(f"{path}-cert.pub").is_file():
                key = self._read(path)
                if key is not None:
                    yield path, key

    def _read(self, path: str) -> Any:
        """The private key, None where it cannot be had. What a file holds decides what reading it raises."""
        try:
            return paramiko.PKey.from_path(path)
        except (TypeError, paramiko.PasswordRequiredException):
            self.locked.append(path)
        except Exception:
            self.unread.append(path)
        return None

    def words(self) -> str:
        """Of a login that failed: which keys, and what else."""
        parts = [", ".join(self.tried) or "none is there"]
        parts += [f"not readable: {', '.join(self.unread)}"] if self.unread else []
        parts += [f"it also wants: {', '.join(self.wants)}"] if self.wants else []
        return "; ".join(parts)

    def unlock(self) -> str:
        """What to do about `locked`."""
        add, agent = f"ssh-add {shlex.join(self.locked)}", self._login.agent
        if agent == NO_AGENT:
            return f"its ssh configuration keeps agents out (IdentityAgent none); take that out and type: {add}"
        if agent != USUAL_AGENT:
            return f"type: SSH_AUTH_SOCK={shlex.quote(agent)} {add}"
        if os.environ.get(USUAL_AGENT):
            return f"type: {add}"
        return f"no ssh-agent runs here; type: eval \"$(ssh-agent)\"; {add}"


class _Agent(AgentSSH):                         # type: ignore[misc]  # paramiko has no types
    """paramiko's own knows the socket of SSH_AUTH_SOCK alone, waits for it for ever, and wants comments in UTF-8."""

    def __init__(self, path: str) -> None:
        super().__init__()
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(AGENT_S)
        try:
            link.connect(path)
            self._connect(link)
        except BaseException:
            link.close()
            raise

    def _connect(self, link: socket.socket) -> None:
        self._conn = link
        kind, answer = self._send_message(cSSH2_AGENTC_REQUEST_IDENTITIES)
        if kind != SSH2_AGENT_IDENTITIES_ANSWER:
            raise paramiko.SSHException("the agent does not list its keys")
        self._keys = tuple(AgentKey(self, answer.get_binary(), answer.get_binary().decode("utf-8", "replace"))
                           for _ in range(answer.get_int()))

    def close(self) -> None:
        self._close()


def _agent(login: Login) -> _Agent | None:
    path = os.environ.get(USUAL_AGENT, "") if login.agent == USUAL_AGENT else login.agent
    if path in ("", NO_AGENT):
        return None
    try:
        return _Agent(path)
    except (OSError, paramiko.SSHException):    # a socket that was left behind; ssh goes on without it, too
        return None


def _public_half(path: str) -> bytes | None:
    """What an agent calls this key. None: it is in a private key of the old kind, alone."""
    for candidate in (Path(path), Path(f"{path}.pub")):
        try:
            words = candidate.read_bytes().split()
            if b"OPENSSH" in words[:3]:         # -----BEGIN OPENSSH PRIVATE KEY-----
                return _of_private(base64.b64decode(b"".join(words[4:-4])))
            if words[0].startswith((b"ssh-", b"ecdsa-", b"sk-")):
                return base64.b64decode(words[1])
        except (OSError, ValueError, IndexError, paramiko.SSHException):
            continue
    return None


def _of_private(blob: bytes) -> bytes | None:
    """OpenSSH's PROTOCOL.key: cipher, kdf, its options, how many keys, and the public halves before all secrets."""
    if not blob.startswith(_MAGIC):
        return None
    message = paramiko.Message(blob[len(_MAGIC):])
    for _ in range(3):
        message.get_binary()
    return bytes(message.get_binary()) if message.get_int() == 1 else None
