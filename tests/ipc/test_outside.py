"""A process that is no worker publishes into a cluster."""

from __future__ import annotations

import base64
import io
import json
import socket
import sys
import tempfile
import threading
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txsticky.bus.entries import Entry, Reading
from txsticky.cli import publish as command
from txsticky.core.redis_url import STREAM
from txsticky.errors import ConfigError, NoListener, Unanswered, WhichCluster
from txsticky.ipc import outside
from txsticky.ipc.outside import MESSAGE_LIMIT, publish


class ControlTests(SynchronousTestCase):
    """Messages by the control socket."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="txsticky-")
        self.addCleanup(folder.cleanup)
        self.path = str(Path(folder.name, "ctl"))
        self.asked: list[dict[str, Any]] = []

    def serve(self, **answer: Any) -> None:
        """Answer one request."""
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(self.path)
        listening.listen(1)

        def run() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as stream:
                self.asked.append(json.loads(stream.readline()))
                connection.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)

    def test_told(self) -> None:
        """The message reaches the cluster whole, and the number of its listeners comes back."""
        self.serve(ok=True, told=3)
        self.assertEqual(publish("t/ü", b"\0\xff", control=self.path), 3)
        message = base64.b64encode(b"\0\xff").decode()
        self.assertEqual(self.asked, [{"verb": "publish", "topic": "t/ü", "message": message}])

    def test_none(self) -> None:
        """Where no worker listens it is an error."""
        self.serve(ok=True, told=0)
        error = self.assertRaises(NoListener, publish, "t", b"m", control=self.path)
        self.assertIn("No worker listens to the topic 't'", str(error))

    def test_refused(self) -> None:
        """What the cluster refuses is an error with its reason."""
        self.serve(ok=False, error="Not now.")
        error = self.assertRaises(Unanswered, publish, "t", b"m", control=self.path)
        self.assertIn("refuses: Not now.", str(error))

    def test_away(self) -> None:
        """Where no cluster is it is an error."""
        error = self.assertRaises(Unanswered, publish, "t", b"m", control=self.path)
        self.assertIn(f"No cluster answers at {self.path}", str(error))

    def test_by_environment(self) -> None:
        """The environment names the cluster, if nothing else does."""
        self.serve(ok=True, told=1)
        self.assertEqual(publish("t", b"m", environ={"TXSTICKY_CONTROL": self.path}), 1)

    def test_nowhere(self) -> None:
        """Without a cluster that is named it is an error that says how to name one."""
        for environ in ({}, {"TXSTICKY_BUS": "local"}):
            error = self.assertRaises(WhichCluster, publish, "t", b"m", environ=environ)
            self.assertIn("TXSTICKY_CONTROL", str(error))

    def test_limits(self) -> None:
        """A topic or a message that is too long is refused here."""
        self.assertRaises(ValueError, publish, "t" * 65_536, b"", control=self.path)
        self.assertRaises(ValueError, publish, "t", b"m" * (MESSAGE_LIMIT + 1), control=self.path)

    def test_command(self) -> None:
        """The command publishes its arguments, or its standard input."""
        for message, content in (("hello", b"hello"), ("-", b"from\0stdin")):
            with self.subTest(message):
                self.asked.clear()
                Path(self.path).unlink(missing_ok=True)
                self.serve(ok=True, told=1)
                self.patch(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"from\0stdin")))
                self.assertEqual(command.main(["--control", self.path, "t", message]), 0)
                (asked,) = self.asked
                self.assertEqual(base64.b64decode(asked["message"]), content)

    def test_command_fails(self) -> None:
        """What goes wrong is one line, and the exit code is not 0."""
        with redirect_stderr(io.StringIO()) as said:
            self.assertEqual(command.main(["--control", self.path, "t", "m"]), 1)
        self.assertRegex(said.getvalue(), r"^txsticky: No cluster answers at \S+: .*\.\n$")


class RedisTests(SynchronousTestCase):
    """Messages by Redis, with its library played."""

    def setUp(self) -> None:
        self.client = mock.MagicMock()
        self.client.__enter__.return_value = self.client
        self.library = SimpleNamespace(
            Redis=SimpleNamespace(from_url=mock.Mock(return_value=self.client)), RedisError=OSError
        )
        self.patch(outside.importlib, "import_module", lambda name: self.library)

    def test_told(self) -> None:
        """The message goes to the channel of the database, behind a mark."""
        self.client.publish.return_value = 2
        self.assertEqual(publish("t", b"m", bus="redis://here/5"), 2)
        ((channel, message),) = (call.args for call in self.client.publish.call_args_list)
        self.assertEqual((channel, message[8:]), (b"txsticky:5:t", b"m"))
        self.assertEqual(self.library.Redis.from_url.call_args.args, ("redis://here/5",))

    def test_stream(self) -> None:
        """A message for a stream is an entry, as the machines that read the stream take it."""
        count = publish("t", b"m", bus="redis-stream://:pw@here/5?length=9")
        ((key, entry),) = (call.args for call in self.client.xadd.call_args_list)
        self.assertEqual((count, key), (1, STREAM))
        self.assertEqual(self.client.xadd.call_args.kwargs, {"maxlen": 9, "approximate": True})
        (url,) = self.library.Redis.from_url.call_args.args
        self.assertEqual(url, "redis://:pw@here/5")
        read = Reading(b"12345678").read([part for field in entry.items() for part in field])
        self.assertEqual(read, Entry(((b"t", b"m"),)))

    def test_stream_by_path(self) -> None:
        """A message for a stream by a UNIX socket is an entry in whatever database."""
        publish("t", b"m", bus="unix-stream:///run/redis.sock?db=2&length=9")
        (url,) = self.library.Redis.from_url.call_args.args
        self.assertEqual(url, "unix:///run/redis.sock?db=2")

    def test_none(self) -> None:
        """Where no machine listens it is an error."""
        self.client.publish.return_value = 0
        self.assertRaises(NoListener, publish, "t", b"m", bus="redis://here")

    def test_away(self) -> None:
        """A Redis that does not take a message is an error."""
        self.client.publish.side_effect = OSError("refused")
        error = self.assertRaises(Unanswered, publish, "t", b"m", bus="redis://here:7")
        self.assertIn("Redis at here:7 does not take it: refused.", str(error))

    def test_url(self) -> None:
        """What is no URL of a Redis is refused."""
        self.assertRaises(ConfigError, publish, "t", b"m", bus="http://here")

    def test_library(self) -> None:
        """Without the library it is an error that says how to get it."""
        self.patch(outside.importlib, "import_module", mock.Mock(side_effect=ImportError("redis")))
        error = self.assertRaises(ConfigError, publish, "t", b"m", bus="redis://here")
        self.assertIn("pip install redis", str(error))
