"""A certificate for one attempt of a trial with a peer, and its private key. Made by peers.py, kept nowhere.

It names nobody and is valid at any time: the device knows the one certificate that it must see, and a board's clock
may be wrong by years.
"""
import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_BEGIN, _END = datetime.datetime(1970, 1, 1), datetime.datetime(2049, 12, 31)


def self_signed() -> tuple[str, str]:
    """(certificate, private key), both as PEM; P-256, which is quick on small boards."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgefleet peer")])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(_BEGIN).not_valid_after(_END)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256()))
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                               serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM).decode("ascii"), secret.decode("ascii")
