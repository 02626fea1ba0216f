"""Certificates for tests, made on the spot."""

from __future__ import annotations

import datetime
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@frozen
class Pair:
    """The paths of a certificate, which is its own authority, and of its key."""

    certificate: str
    key: str


def new_key() -> ec.EllipticCurvePrivateKey:
    """A private key."""
    return ec.generate_private_key(ec.SECP256R1())


def self_signed(key: Key, *names: str, common: str = "") -> bytes:
    """A certificate for these DNS names, in PEM; `common` is its common name, the first if none."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common or names[0])])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def key_pem(key: Key, passphrase: bytes = b"") -> bytes:
    """A private key in PEM, locked if there is a passphrase."""
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        lock = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


def pair(folder: Path, *names: str) -> Pair:
    """Write a new certificate for these names into a folder, over an older one of that name."""
    key = new_key()
    certificate_path, key_path = folder / f"{names[0]}.pem", folder / f"{names[0]}.key"
    certificate_path.write_bytes(self_signed(key, *names))
    key_path.write_bytes(key_pem(key))
    return Pair(str(certificate_path), str(key_path))
