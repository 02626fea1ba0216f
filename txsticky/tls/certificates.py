"""
The certificates of ``--tls-cert`` and ``--tls-key`` (the extra ``txsticky[tls]``).

The template of a generation of workers reads the files, so a rolling reload takes up new ones.  The
workers share what it has made of them, the keys of session tickets too: a session that began in one
is resumed in any (RFC 5077; RFC 8446, section 2.2).  What pyOpenSSL and cryptography bring is
imported only when there are certificates.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from ..errors import TlsError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from OpenSSL import SSL

#: The suites of TLS 1.2 that are offered: ephemeral keys and authenticated encryption, as all of
#: TLS 1.3's are (RFC 9325, section 4.2).
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
#: The application protocol that is spoken (RFC 7301).
HTTP_1_1 = b"http/1.1"


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """
    The server's side of TLS, with the certificate that a client's server name asks for.

    The server name is that of RFC 6066, section 3.

    :param contexts: pyOpenSSL's contexts, each with the DNS names of its certificate. The first is
        for clients that name no server, or none that is known; of two with one name, the first is
        taken.
    """

    def __init__(self, contexts: Sequence[tuple[SSL.Context, Iterable[str]]]) -> None:
        self._default = contexts[0][0]
        self._by_name: dict[str, SSL.Context] = {}
        for context, names in contexts:
            for name in names:
                self._by_name.setdefault(name.lower(), context)
            context.set_tlsext_servername_callback(self._named)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """Make the state of one connection (`IOpenSSLServerConnectionCreator`)."""
        return _connection_type()(self._default, None)

    def _named(self, connection: SSL.Connection) -> None:
        context = self.find(server_name(connection))
        if context is not None:
            connection.set_context(context)

    def find(self, name: str) -> SSL.Context | None:
        """
        Find the context for a server name.

        A wildcard stands for one whole label, the leftmost (RFC 9525, section 6.3).
        """
        return self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])


@functools.cache
def _connection_type() -> type[SSL.Connection]:
    from OpenSSL import SSL

    class TlsState(SSL.Connection):
        """The state of TLS on one connection."""

        def bio_shutdown(self) -> None:
            """
            Say nothing of the end of TCP to OpenSSL.

            Twisted asks for it when TCP is lost, and reads once more for nothing but an error. That
            is kept in the frame that it came to, and so is all of this, until Python's collector
            comes. `termination.TlsLayer` tells what the error would have told.
            """

    return TlsState


def server_name(connection: SSL.Connection) -> str:
    """Tell which server the client named, in lower case; empty if it named none."""
    return (connection.get_servername() or b"").decode("ascii", "replace").lower()


def load_certificates(
    certificates: Iterable[str],
    keys: Iterable[str],
    files: Mapping[str, str] | None = None,
    shared: bool = False,
) -> Certificates:
    """
    Read certificates and their keys.

    :param certificates: paths of PEM files: the certificate, then its chain.
    :param keys: paths of PEM files with the private keys, in the same order.
    :param files: what `read_files` found in some of them, which are not read again.
    :param shared: whether all workers will share them, so that sessions can be resumed.
    :raises TlsError: one cannot be used, or pyOpenSSL is not installed.
    """
    if importlib.util.find_spec("OpenSSL") is None:
        raise TlsError(reason="it needs pyOpenSSL: pip install 'txsticky[tls]'")
    found = files or {}
    pairs = zip(certificates, keys, strict=True)
    return Certificates([_load(certificate, key, found, shared) for certificate, key in pairs])


def read_files(paths: Iterable[str]) -> dict[str, str]:
    """
    Read PEM files for a process that may not: the keys may be root's alone.

    :returns: the texts, by path. What cannot be read is left out: that process says why.
    """
    found = {}
    for path in paths:
        try:
            found[path] = Path(path).read_bytes().decode("latin-1")
        except OSError:
            pass
    return found


def _load(
    certificate: str, key: str, files: Mapping[str, str], shared: bool
) -> tuple[SSL.Context, list[str]]:
    from OpenSSL import SSL, crypto

    chain, private = _read_chain(certificate, files), _read_key(key, files)
    context = _context(shared)
    try:
        context.use_certificate(crypto.X509.from_cryptography(chain[0]))
        for issuer in chain[1:]:
            context.add_extra_chain_cert(crypto.X509.from_cryptography(issuer))
    except SSL.Error as error:
        reason = f"OpenSSL refuses the certificate in {certificate} ({_words(error)})"
        raise TlsError(reason=reason) from None
    try:
        context.use_privatekey(crypto.PKey.from_cryptography_key(private))
        context.check_privatekey()
    except (SSL.Error, TypeError):
        reason = f"the key in {key} is not that of the certificate in {certificate}"
        raise TlsError(reason=reason) from None
    return context, list(_names(chain[0]))


def _context(shared: bool) -> SSL.Context:
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CIPHERS)
    # A session is kept in the ticket that its client gets, not here. If only the worker that gave
    # it could read it, it would be of no use: the next connection is as likely to reach another.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"txsticky")
    if not shared:
        context.set_options(SSL.OP_NO_TICKET)
    # A client that renegotiates makes the server do the expensive part over and over.
    no_renegotiation = getattr(SSL, "OP_NO_RENEGOTIATION", 1 << 30)
    context.set_options(SSL.OP_NO_COMPRESSION | no_renegotiation)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_alpn_select_callback(_select)
    return context


def _select(connection: SSL.Connection, offered: list[bytes]) -> Any:
    """
    Choose HTTP/1.1.

    A client that offers others alone is served as if it had offered none: the protocol factory of
    an application need not speak HTTP.
    """
    from OpenSSL import SSL

    return HTTP_1_1 if HTTP_1_1 in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _read(path: str, what: str, files: Mapping[str, str]) -> bytes:
    if path in files:
        return files[path].encode("latin-1")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TlsError(reason=f"{what} {path} cannot be read ({error.strerror})") from None


def _read_chain(path: str, files: Mapping[str, str]) -> list[Certificate]:
    from cryptography import x509

    data = _read(path, "the certificate", files)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise TlsError(reason=f"{path} has no certificate in PEM format") from None


def _read_key(path: str, files: Mapping[str, str]) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path, "the key", files)
    try:
        return load_pem_private_key(data, None)
    except TypeError:
        raise TlsError(reason=f"the key in {path} is locked with a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsError(reason=f"{path} has no private key in PEM format") from None


def _names(certificate: Certificate) -> Iterator[str]:
    """The DNS names that a certificate is for."""
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
            yield str(name.value)
    else:
        yield from extension.value.get_values_for_type(x509.DNSName)


def _words(error: SSL.Error) -> str:
    """What OpenSSL says, from (library, function, reason) of each of its errors."""
    said = error.args[0] if error.args else ()
    return "; ".join(str(entry[-1]) for entry in said if entry) or type(error).__name__
