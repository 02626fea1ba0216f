"""--reload: an application that is being edited."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import ROOT, Cluster
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, request

PAGE = """
from twisted.web.resource import Resource
from library import NAME

class Page(Resource):
    isLeaf = True

    def render(self, request):
        return b"%s by " + NAME

page = Page()
"""


class Edited(Cluster):
    """A cluster of two whose application stands in a folder of its own."""

    def __init__(self, folder: Path, library: Path) -> None:
        path = os.pathsep.join((str(ROOT), str(library)))
        super().__init__("page:page", "--reload", probe="/", environment={"PYTHONPATH": path})
        self.folder = folder


class ReloadTests(SynchronousTestCase):
    """Editing."""

    def test_editing(self) -> None:
        """A change is served by new workers; a mistake is not, and its correction is."""
        app, library = Path(self.mktemp()).resolve(), Path(self.mktemp()).resolve()
        for folder in (app, library):
            folder.mkdir()
        (library / "library.py").write_text("NAME = b'me'\n")
        page = app / "page.py"
        page.write_text(PAGE % "one")
        with Edited(app, library) as cluster, cluster.connect() as connection:
            self.see(connection, b"one by me")
            page.write_text(PAGE % "two, longer")
            self.see(connection, b"two, longer by me")
            until(lambda: cluster.log().count("The reload is complete.") == 1)
            self.assertIn("Reloading, because of changes in page.py.", cluster.log())

            page.write_text("oops = \n")
            until(lambda: "SyntaxError: invalid syntax" in cluster.log(), 20)
            self.see(connection, b"two, longer by me")
            self.assertEqual(cluster.get("/").body, b"two, longer by me")

            page.write_text(PAGE % "three")
            self.see(connection, b"three by me")
            (library / "library.py").write_text("NAME = b'somebody else'\n")
            self.see(connection, b"three by somebody else")

    def see(self, connection: Connection, body: bytes) -> None:
        """Ask on one and the same connection until this is the answer."""
        until(lambda: connection.ask(request("GET", "/")).body == body, 30, repr(body))
