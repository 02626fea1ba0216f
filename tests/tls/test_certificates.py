"""Certificates and keys: read, checked, chosen by server name."""

from __future__ import annotations

import datetime
import importlib.util
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import key_pem, new_key, self_signed
from txsticky.errors import TlsError
from txsticky.tls.certificates import Certificates, load_certificates, server_name


def meet(
    certificates: Certificates,
    client: ssl.SSLContext,
    name: str | None,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, SSL.Connection]:
    """Let a client and the server shake hands in memory; returns both ends."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    far = certificates.serverConnectionForTLS(None)
    far.set_accept_state()
    done = [False, False]
    for _ in range(20):
        for side, shake in enumerate((near.do_handshake, far.do_handshake)):
            try:
                shake()
                done[side] = True
            except (ssl.SSLWantReadError, SSL.WantReadError):
                pass
            if to_server.pending:
                far.bio_write(to_server.read())
            try:
                to_client.write(far.bio_read(1 << 16))
            except SSL.WantReadError:
                pass
        if all(done):
            try:
                near.read(1)  # over TLS 1.3 the tickets follow the handshake
            except ssl.SSLWantReadError:
                pass
            return near, far
    raise AssertionError("no end of the handshake")


def trusting(*paths: str) -> ssl.SSLContext:
    """A client that trusts these certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for path in paths:
        context.load_verify_locations(path)
    return context


class CertificateCase(SynchronousTestCase):
    """Tests with files."""

    def setUp(self) -> None:
        """Make a folder."""
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def file(self, name: str, content: bytes) -> str:
        """Write a file; returns its path."""
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def pair(self, *names: str) -> tuple[str, str]:
        """A certificate for these names, and its key."""
        key = new_key()
        return (
            self.file(f"{names[0]}.pem", self_signed(key, *names)),
            self.file(f"{names[0]}.key", key_pem(key)),
        )

    def loaded(self, *pairs: tuple[str, str]) -> Certificates:
        """What comes of these pairs."""
        return load_certificates([pair[0] for pair in pairs], [pair[1] for pair in pairs])


class Choosing(CertificateCase):
    """Which certificate a client is shown."""

    def shown(self, certificates: Certificates, name: str | None) -> set[str]:
        """The names in the certificate that a client gets which asks for this one."""
        client = trusting(*map(str, self.folder.glob("*.pem")))
        client.check_hostname = False
        near, _ = meet(certificates, client, name)
        certificate = near.getpeercert() or {}
        return {str(value) for _, value in certificate["subjectAltName"]}

    def test_by_name(self) -> None:
        """A client is shown the certificate that has the name, in any case of letters."""
        both = self.loaded(self.pair("one.test"), self.pair("two.test", "also.test"))
        self.assertEqual(self.shown(both, "one.test"), {"one.test"})
        self.assertEqual(self.shown(both, "also.test"), {"two.test", "also.test"})
        self.assertEqual(self.shown(both, "TWO.test"), {"two.test", "also.test"})

    def test_first(self) -> None:
        """A client that names no server, or one that no certificate has, is shown the first."""
        both = self.loaded(self.pair("one.test"), self.pair("two.test"))
        self.assertEqual(self.shown(both, "three.test"), {"one.test"})
        self.assertEqual(self.shown(both, None), {"one.test"})

    def test_wildcard(self) -> None:
        """A wildcard stands for one label, and a whole name goes before it."""
        three = self.loaded(
            self.pair("zero.test"), self.pair("*.wild.test"), self.pair("a.wild.test")
        )
        self.assertEqual(self.shown(three, "b.wild.test"), {"*.wild.test"})
        self.assertEqual(self.shown(three, "a.wild.test"), {"a.wild.test"})
        for name in ("wild.test", "c.b.wild.test"):
            self.assertEqual(self.shown(three, name), {"zero.test"}, name)

    def test_same_name(self) -> None:
        """Of two certificates with one name the first is taken."""
        two = self.loaded(self.pair("one.test", "both.test"), self.pair("two.test", "both.test"))
        self.assertEqual(self.shown(two, "both.test"), {"one.test", "both.test"})

    def test_common_name(self) -> None:
        """The common name counts where there are no other names, and only there."""
        key, other = new_key(), new_key()
        old = self_signed(key, common="old.test")
        new = self_signed(other, "new.test", common="hidden.test")
        certificates = self.loaded(
            (self.file("new", new), self.file("new.key", key_pem(other))),
            (self.file("old", old), self.file("old.key", key_pem(key))),
        )
        self.assertIsNotNone(certificates.find("old.test"))
        self.assertIsNotNone(certificates.find("new.test"))
        self.assertIsNone(certificates.find("hidden.test"))

    def test_server_name(self) -> None:
        """What the client asked for is told in lower case; empty if it asked for nothing."""
        certificate, key = self.pair("one.test")
        client = trusting(certificate)
        client.check_hostname = False
        certificates = self.loaded((certificate, key))
        for name, told in (("One.Test", "one.test"), ("other.test", "other.test"), (None, "")):
            self.assertEqual(server_name(meet(certificates, client, name)[1]), told)


class Speaking(CertificateCase):
    """What is agreed on."""

    def test_chain(self) -> None:
        """The certificates behind the first go along, so that a client needs the root alone."""
        root_key, middle_key, key = new_key(), new_key(), new_key()
        root = x509.load_pem_x509_certificate(self_signed(root_key, common="root"))
        middle = self.issued("middle", middle_key, root, root_key, authority=True)
        leaf = self.issued("leaf.test", key, middle, middle_key, authority=False)
        pem = serialization.Encoding.PEM
        chain = leaf.public_bytes(pem) + middle.public_bytes(pem)
        files = self.file("chain", chain), self.file("key", key_pem(key))
        certificates = self.loaded(self.pair("other.test"), files)
        client = trusting(self.file("root", root.public_bytes(pem)))
        near, _ = meet(certificates, client, "leaf.test")
        self.assertEqual(len(near._sslobj.get_unverified_chain()), 2)  # type: ignore[attr-defined]

    def issued(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Certificate,
        issuer_key: ec.EllipticCurvePrivateKey,
        authority: bool,
    ) -> x509.Certificate:
        """A certificate that another one has signed."""
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )

    def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken, and nothing older."""
        certificate, key = self.pair("one.test")
        certificates = self.loaded((certificate, key))
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = trusting(certificate)
            client.minimum_version = client.maximum_version = version
            near, _ = meet(certificates, client, "one.test")
            self.assertEqual(near.version(), version.name.replace("_", "."))
        client = trusting(certificate)
        client.set_ciphers("ALL:@SECLEVEL=0")
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises((ssl.SSLError, SSL.Error)):
            meet(certificates, client, "one.test")

    def test_suites(self) -> None:
        """In TLS 1.2 only suites with ephemeral keys and authenticated encryption are offered."""
        certificate, key = self.pair("one.test")
        certificates = self.loaded((certificate, key))
        client = trusting(certificate)
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers("ECDHE-ECDSA-AES128-SHA256:AES128-GCM-SHA256")
        with self.assertRaises((ssl.SSLError, SSL.Error)):
            meet(certificates, client, "one.test")

    def test_protocol(self) -> None:
        """HTTP/1.1 is chosen wherever it stands, and nothing if it is not offered."""
        certificate, key = self.pair("one.test")
        certificates = self.loaded((certificate, key))
        for offered, chosen in (
            (["h2", "http/1.1"], "http/1.1"),
            (["http/1.1"], "http/1.1"),
            (["h2"], None),
            ([], None),
        ):
            client = trusting(certificate)
            if offered:
                client.set_alpn_protocols(offered)
            near, _ = meet(certificates, client, "one.test")
            self.assertEqual(near.selected_alpn_protocol(), chosen)

    def test_no_tickets(self) -> None:
        """No client is given a session to resume, which another worker could not."""
        certificate, key = self.pair("one.test")
        client = trusting(certificate)
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        near, _ = meet(self.loaded((certificate, key)), client, "one.test")
        session = near.session
        self.assertTrue(session is None or not session.has_ticket)


class Refusing(CertificateCase):
    """What cannot be used, and how that is said."""

    def said(self, certificate: str, key: str) -> str:
        """The sentence."""
        error = self.assertRaises(TlsError, self.loaded, (certificate, key))
        self.assertEqual(error.exit_code, 3)
        self.assertNotIn("\n", str(error))
        return str(error)

    def test_other_key(self) -> None:
        """A key of another certificate is refused, of the same kind or not."""
        certificate, _ = self.pair("one.test")
        _, other = self.pair("two.test")
        small = rsa.generate_private_key(65537, 2048)
        for key in (other, self.file("rsa.key", key_pem(small))):
            self.assertEqual(
                self.said(certificate, key),
                f"TLS cannot be served: the key in {key} is not that of the certificate in"
                f" {certificate}.",
            )

    def test_missing(self) -> None:
        """A file that is not there, or is none, is refused."""
        certificate, key = self.pair("one.test")
        nowhere = str(self.folder / "nowhere")
        self.assertIn(
            f"the certificate {nowhere} cannot be read (No such file", self.said(nowhere, key)
        )
        self.assertIn(
            f"the key {nowhere} cannot be read (No such file", self.said(certificate, nowhere)
        )
        folder = str(self.folder)
        self.assertIn(f"the certificate {folder} cannot be read (Is a dir", self.said(folder, key))

    def test_no_pem(self) -> None:
        """A file without a certificate, or without a key, is refused."""
        certificate, key = self.pair("one.test")
        broken = self.file("broken", b"-----BEGIN CERTIFICATE-----\nAAAA\n")
        for path in (key, broken, self.file("empty", b"")):
            self.assertIn(f"{path} has no certificate in PEM format", self.said(path, key))
            if path != key:
                self.assertIn(f"{path} has no private key in PEM", self.said(certificate, path))

    def test_locked(self) -> None:
        """A key with a passphrase is refused: no operator could be asked for it."""
        key = new_key()
        certificate = self.file("one.pem", self_signed(key, "one.test"))
        locked = self.file("one.key", key_pem(key, b"secret"))
        self.assertIn(
            f"the key in {locked} is locked with a passphrase", self.said(certificate, locked)
        )

    def test_refused_by_openssl(self) -> None:
        """A certificate that OpenSSL does not like is refused with what OpenSSL says."""

        def refuse(context: SSL.Context, certificate: object) -> None:
            raise SSL.Error([("SSL routines", "", "ee key too small")])

        self.patch(SSL.Context, "use_certificate", refuse)
        certificate, key = self.pair("weak.test")
        self.assertIn(
            f"OpenSSL refuses the certificate in {certificate} (ee key too small)",
            self.said(certificate, key),
        )

    def test_one_file(self) -> None:
        """Certificate and key may be in one file, in any order."""
        key = new_key()
        parts = [self_signed(key, "one.test"), key_pem(key)]
        for number, content in enumerate((parts, parts[::-1])):
            path = self.file(f"both{number}", b"".join(content))
            self.assertIsNotNone(self.loaded((path, path)).find("one.test"))

    def test_not_installed(self) -> None:
        """Without pyOpenSSL the sentence names the extra that brings it."""
        pair = self.pair("one.test")
        self.patch(importlib.util, "find_spec", lambda name: None)
        self.assertIn("pip install 'txsticky[tls]'", self.said(*pair))


class ResumptionTests(CertificateCase):
    """Sessions that are resumed."""

    def resumed(self, shared: bool, version: ssl.TLSVersion, name: str) -> bool:
        """Whether a client that comes again goes on with its session."""
        pairs = [self.pair("one.test"), self.pair("two.test")]
        certificates = load_certificates(*zip(*pairs, strict=True), None, shared)
        client = trusting(*(certificate for certificate, _ in pairs))
        client.minimum_version = client.maximum_version = version
        first, _ = meet(certificates, client, name)
        again, _ = meet(certificates, client, name, first.session)
        return bool(again.session_reused)

    def test_shared(self) -> None:
        """Where workers share the keys of tickets, sessions are resumed, of either version."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for name in ("one.test", "two.test"):
                self.assertTrue(self.resumed(True, version, name), (version, name))

    def test_alone(self) -> None:
        """Where another worker could not resume a session, no client gets a ticket."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.assertFalse(self.resumed(False, version, "one.test"), version)
