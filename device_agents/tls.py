"""TLS between a device and its peer: a certificate of one attempt, which the device trusts alone, and no authority.

Used by serve.py, which gets the certificate and its private key on standard input, and by peer.py and load_child.py,
whose order has the certificate. It hides and protects what travels and shows the peer to be the right one; who the
device is shows the trial's key, inside (frames.py). It refuses (Unsupported) a Python without ssl, and never goes
without.
"""
import socket
import tempfile
from typing import Any

from device_agents.frames import Refused
from device_agents.seams import Unsupported

_ANY_END = 0x80                                 # a connection that just ends has ended (frames know their length); an
#                                                 old Python makes an error of it with OpenSSL 3


def for_peer(certificate: str, private_key: str, folder: str) -> Any:
    """The ssl.SSLContext of who serves; both as PEM, and for a moment in a file below `folder`.

    Raises Unsupported, ValueError (they are none, or no pair), OSError.
    """
    ssl = _ssl()
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", dir=folder) as file:  # 0600, and gone at once: ssl reads files only
        file.write(certificate + private_key)
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except ssl.SSLError as error:
            raise ValueError("certificate and private_key are no pair in PEM (%s)" % error)
    return context


def for_device(certificate: str) -> Any:
    """The ssl.SSLContext of who asks. Raises Unsupported, ValueError."""
    ssl = _ssl()
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False              # it is known by its certificate, which no other host has
    try:
        context.load_verify_locations(cadata=certificate)
    except ssl.SSLError as error:
        raise ValueError("the peer's certificate is none (%s)" % error)
    return context


def connect(context: Any, link: socket.socket) -> socket.socket:
    """The device's side, on a fresh connection with a timeout. Raises Refused (another certificate), OSError."""
    try:
        wrapped: socket.socket = context.wrap_socket(link)
    except _ssl().SSLError as error:
        raise Refused("it does not show the certificate of this trial (%s)" % error)
    return wrapped


def _context(protocol: Any) -> Any:
    context = _ssl().SSLContext(protocol)
    context.options |= _ANY_END
    return context


def _ssl() -> Any:
    try:
        import ssl
    except ImportError as error:
        raise Unsupported("this Python has no ssl, which the way to a peer needs (%s)" % error)
    return ssl
