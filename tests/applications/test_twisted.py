"""Large applications of Twisted, whose Site is served by the channel of this server."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, ClassVar

from tests.applications.harness import READY, WORKERS, ApplicationTestCase
from tests.integration.processes import until


class SiteCase(ApplicationTestCase):
    """A factory of a Site, which has a folder."""

    heavy = True
    options = ("--factory",)
    CLIENTS = 3
    #: The variable that names the folder.
    FOLDER: ClassVar[str]

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="txsticky-site-"))
        self.addCleanup(shutil.rmtree, self.folder)
        type(self).environment = {self.FOLDER: str(self.folder)}
        self.prepare()
        super().setUp()

    def prepare(self) -> None:
        """Fill the folder."""

    def client(self) -> Any:
        """A client that keeps cookies and its connection."""
        import requests

        client = requests.Session()
        self.addCleanup(client.close)
        return client

    def ask(self, client: Any, method: str, path: str, **options: Any) -> Any:
        """Ask for JSON."""
        answer = client.request(method, self.cluster.url + path, timeout=60, **options)
        self.assertEqual(answer.status_code, 200, answer.text)
        return answer.json()


class BuildbotTests(SiteCase):
    """Buildbot, with a master in each worker."""

    application = "Buildbot, its web part"
    packages = ("buildbot", "buildbot-www", "requests", "websocket-client", "setuptools<80")
    served = "buildbot_site:site"
    FOLDER = "BUILDBOT_FOLDER"
    done = "its page, REST, a build that is forced, and told over its WebSocket; a reload"

    def prepare(self) -> None:
        try:
            from tests.applications.served.buildbot_site import CONFIG
        except ImportError:
            return
        run = "from buildbot.scripts.runner import run; run()"
        for number in range(1, WORKERS + 1):
            folder = self.folder / str(number)
            subprocess.run(
                [sys.executable, "-c", run, "create-master", "-q", str(folder)], check=True
            )
            (folder / "master.cfg").write_text(CONFIG)

    def test_site(self) -> None:
        """Clients see pages, force builds, and hear of them."""
        for _ in range(self.CLIENTS):
            self.converse(self.client())
        self.cluster.reload()
        for _ in range(self.CLIENTS):
            self.converse(self.client())
        self.proved()

    def started(self, client: Any) -> bool:
        """Whether the master of the client's worker has started: it does when that is ready."""
        answer = client.get(self.cluster.url + "/api/v2/builders", timeout=60)
        return answer.status_code == 200 and bool(answer.json()["builders"])

    def converse(self, client: Any) -> None:
        """One client."""
        import websocket

        until(lambda: self.started(client), READY, "the master has started")
        self.page(client)
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies)
        url = self.cluster.url.replace("http", "ws") + "/ws"
        socket = websocket.create_connection(url, cookie=cookies, timeout=60)
        path = "buildrequests/*/new"
        socket.send(json.dumps({"cmd": "startConsuming", "path": path, "_id": 1}))
        self.assertEqual(json.loads(socket.recv()), {"msg": "OK", "code": 200, "_id": 1})
        told = {"jsonrpc": "2.0", "method": "force", "id": 1, "params": {"builderid": 1}}
        self.ask(client, "POST", "/api/v2/forceschedulers/force", json=told)
        heard = json.loads(socket.recv())["m"]
        path = f"/api/v2/buildrequests/{heard['buildrequestid']}"
        (found,) = self.ask(client, "GET", path)["buildrequests"]
        self.assertEqual(found["buildsetid"], heard["buildsetid"])
        socket.close()

    def page(self, client: Any) -> None:
        """Load the page and its script, once more if it has changed."""
        page = client.get(self.cluster.url, timeout=60)
        found = re.search(r'src="([^"]+\.js)"', page.text)
        assert found is not None, page.text
        url = f"{self.cluster.url}/{found[1].lstrip('./')}"
        script = client.get(url, timeout=60)
        self.assertEqual(script.status_code, 200)
        self.assertGreater(len(script.content), 100_000)
        same = {"If-Modified-Since": script.headers["Last-Modified"]}
        self.assertEqual(client.get(url, headers=same, timeout=60).status_code, 304)


class ScrapydTests(SiteCase):
    """Scrapyd."""

    application = "Scrapyd"
    packages = ("scrapyd", "requests", "setuptools<80")
    served = "scrapyd_site:site"
    FOLDER = "HOME"
    done = "a project is uploaded, its spiders are listed, a job waits; its pages; a reload"

    def prepare(self) -> None:
        folders = (f"{name}_dir = {self.folder}/{name}\n" for name in ("eggs", "logs", "dbs"))
        (self.folder / ".scrapyd.conf").write_text(f"[scrapyd]\n{''.join(folders)}")

    def egg(self) -> bytes:
        """A project with a spider, and with a file that no chunk of a socket holds."""
        files = {
            "EGG-INFO/PKG-INFO": "Metadata-Version: 1.0\nName: birds\nVersion: 1\n",
            "EGG-INFO/entry_points.txt": "[scrapy]\nsettings = birds.settings\n",
            "birds/__init__.py": "",
            "birds/settings.py": "SPIDER_MODULES = ['birds.spiders']\n",
            "birds/spiders.py": "import scrapy\nclass Wren(scrapy.Spider):\n    name = 'wren'\n",
        }
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as egg:
            for name, text in files.items():
                egg.writestr(name, text)
            egg.writestr("birds/padding", os.urandom(1 << 20))
        return out.getvalue()

    def test_site(self) -> None:
        """Each client's project comes, has a job, and goes."""
        for number in range(self.CLIENTS):
            self.converse(self.client(), f"first{number}")
        self.cluster.reload()
        for number in range(self.CLIENTS):
            self.converse(self.client(), f"second{number}")
        self.proved()

    def converse(self, client: Any, project: str) -> None:
        """One client. (A worker of Scrapyd knows the projects that came to it since its start.)"""
        data = {"project": project, "version": "1"}
        egg = {"egg": ("birds.egg", self.egg())}
        added = self.ask(client, "POST", "/addversion.json", data=data, files=egg)
        self.assertEqual((added["status"], added.get("spiders")), ("ok", 1), added)
        spiders = self.ask(client, "GET", f"/listspiders.json?project={project}")
        self.assertEqual(spiders.get("spiders"), ["wren"], spiders)
        told = {"project": project, "spider": "wren"}
        job = self.ask(client, "POST", "/schedule.json", data=told)["jobid"]
        jobs = self.ask(client, "GET", f"/listjobs.json?project={project}")
        self.assertEqual([each["id"] for each in jobs["pending"]], [job])
        self.assertIn(project, client.get(self.cluster.url + "/jobs", timeout=60).text)
        gone = self.ask(client, "POST", "/delproject.json", data={"project": project})
        self.assertEqual(gone["status"], "ok")
