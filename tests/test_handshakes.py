"""What is measured of handshakes is what it says."""

from __future__ import annotations

import ssl

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import handshakes
from tests.certificates import new_key


class OpensslTests(SynchronousTestCase):
    """OpenSSL alone."""

    def test_resumed(self) -> None:
        """A handshake that is to resume a session does, in both versions; another one does not."""
        server = handshakes._server(new_key())
        for version in handshakes.VERSIONS:
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
            client.minimum_version = client.maximum_version = version
            session, seen = None, []
            for _ in range(3):
                cost, side = handshakes._handshake(server, client, session)
                session = side.session
                seen.append(side.session_reused)
                self.assertGreater(cost, 1)
            self.assertEqual(seen, [False, True, True], version)

    def test_each(self) -> None:
        """Each key and version is measured."""
        found = [name for name, _, _ in handshakes.of_openssl(2)]
        self.assertEqual(len(found), 4)
        self.assertIn("RSA 2048, TLSv1_3", found)
