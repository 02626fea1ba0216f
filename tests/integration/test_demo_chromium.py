"""The demo's page in a real browser, served by a cluster of two workers."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from tests.integration import chromium
from tests.integration.chromium import Browser
from tests.integration.cluster import START, Server, ServerTestCase, free_port
from tests.integration.processes import until

PHONE, DESK = (390, 844), (1280, 800)
#: The largest picture that a repository should carry, in bytes.
MOST = 150 << 10

# Text that is nearer to its background than WCAG 2.2 (1.4.3) allows: [text, ratio] of each.
FAINT_TEXT = """
  const linear = s => s <= .04045 ? s / 12.92 : ((s + .055) / 1.055) ** 2.4;
  const parts = c => c.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) =>
    .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = parts(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  return Array.from(document.querySelectorAll("body *:not(script):not(:disabled)"))
    .filter(e => e.checkVisibility())
    .filter(e => Array.from(e.childNodes).some(n => n.nodeType === 3 && n.data.trim()))
    .map(e => {
      const text = luminance(parts(getComputedStyle(e).color)), ground = luminance(behind(e));
      const ratio = (Math.max(text, ground) + .05) / (Math.min(text, ground) + .05);
      return [e.textContent, ratio];
    })
    .filter(([, ratio]) => ratio < 4.5);
"""


class DemoServer(Server):
    """The command without an application, and a browser."""

    probe = "/whoami"
    size = 2

    def __init__(self) -> None:
        port = free_port()
        listen = f"tcp:{port}:interface=127.0.0.1"
        options = ["--listen", listen, "-w", str(self.size), "--graceful-timeout", "3"]
        super().__init__(["-m", "txsticky", *options], port)
        self.browser = Browser()

    def start(self) -> None:
        super().start()
        self.wait_ready()
        self.browser.__enter__()

    def stop(self) -> None:
        self.browser.close()
        super().stop()

    def wait_ready(self, gone: Set[int] = frozenset()) -> None:
        """Waits until every worker serves, and none of those with these ids."""

        def fact() -> bool:
            ready = self.ready()
            return len(ready) == self.size and not ready & gone

        until(fact, START, f"{self.size} workers are ready, and none of {set(gone)}")

    def ready(self) -> set[int]:
        """The ids of the workers that are ready, as one of them sees it."""
        workers = json.loads(self.get("/status.json").body)["workers"]
        return {worker["id"] for worker in workers if worker["state"] == "ready"}


class DemoTests(ServerTestCase):
    """A person opens the page."""

    if reason := chromium.missing():
        skip = reason

    def server(self) -> DemoServer:
        return DemoServer()

    def setUp(self) -> None:
        super().setUp()
        server = self._shared
        assert isinstance(server, DemoServer)
        self.demo, self.browser = server, server.browser
        self.browser.shape(*DESK)
        self.visit()

    def visit(self) -> None:
        """Opens the page and waits until its WebSocket is open and one request is answered."""
        self.browser.open(f"http://127.0.0.1:{self.demo.port}/")
        self.wait_connected()
        self.browser.until("document.querySelectorAll('#mine li').length === 1")

    def wait_connected(self) -> None:
        self.browser.until("socket.readyState === 1 && here !== null", what="the WebSocket is open")

    def serving(self) -> str:
        """The number of the worker that serves the present tab, as it says."""
        return self.browser.text("#served").split()[1]

    @contextmanager
    def second_tab(self) -> Iterator[tuple[str, str]]:
        """Both tabs while there are two; the second is the present one and on the other worker."""
        first, other = self.browser.tab(), self.serving()
        second = self.browser.new_tab()
        try:
            self.visit()
            self.move_from(other)
            yield first, second
        finally:
            self.browser.close_tab()

    def move_from(self, worker: str) -> None:
        """Takes new sessions until another worker serves the tab."""
        for _ in range(50):
            if self.serving() != worker:
                return
            self.browser.script("served.clear(); document.getElementById('mine').replaceChildren()")
            self.browser.click("#fresh")
            self.browser.until("document.querySelectorAll('#mine li').length === 1")
            self.wait_connected()
        self.fail(f"50 new sessions, and all are served by worker {worker}")

    def test_one_worker_serves_a_tab(self) -> None:
        """All requests of a tab, and its WebSocket, are at one worker: the one curl is told."""
        self.browser.click("#ask")
        self.browser.until("document.querySelectorAll('#mine li').length === 11")
        sid = self.browser.text("#sid")
        told = self.demo.get(f"/whoami?sid={sid}").body.decode().split()
        self.assertEqual(set(self.browser.texts("#mine li")), {told[1]})
        self.assertEqual(self.browser.text("#socket"), f"worker {told[1]}, pid {told[3]}")

    def test_a_tab_stays_when_it_is_reloaded(self) -> None:
        """Reloading keeps the session and the worker."""
        before = self.browser.text("#sid"), self.serving()
        self.visit()
        self.assertEqual((self.browser.text("#sid"), self.serving()), before)

    def test_new_session(self) -> None:
        """A new session may be another worker's, and its WebSocket goes along."""
        before = self.serving()
        self.move_from(before)
        self.assertEqual(self.browser.text("#socket").split(",")[0], f"worker {self.serving()}")

    def test_other_visitors(self) -> None:
        """Sessions that share the browser's connections are served by both workers."""
        seen: set[str] = set()
        for _ in range(10):
            self.browser.click("#others")
            self.browser.until("document.querySelectorAll('#theirs li').length === 10")
            seen.update(self.browser.texts("#theirs li"))
            if len(seen) == 2:
                break
        self.assertEqual(seen, {"1", "2"})

    def test_hand_offs_fly(self) -> None:
        """A connection that is handed over is a dot on its way to the worker."""
        self.browser.script(
            "self.dots = 0;"
            "new MutationObserver(changes => changes.forEach(change => change.addedNodes.forEach("
            "  node => { dots += node.className.startsWith('flying'); })))"
            "  .observe(document.getElementById('stage'), { childList: true })"
        )
        self.browser.click("#others")
        self.browser.until("dots > 0")

    def test_picture(self) -> None:
        """Both workers are drawn, and this tab's WebSocket in the one that holds it."""
        mine = self.serving()
        self.browser.until("document.querySelectorAll('#workers li.ready').length === 2")
        self.browser.until(
            "document.querySelectorAll('#workers li').length === 2", what="no worker leaves"
        )
        self.browser.until("document.querySelectorAll('#workers .dots i.mine').length === 1")
        self.assertEqual(self.browser.texts("#workers li b"), ["worker 1", "worker 2"])
        self.assertEqual(self.browser.texts("#workers li.mine b"), [f"worker {mine}"])
        self.assertEqual(self.browser.texts("#workers li.mine .yours"), ["1 yours"])

    def test_picture_of_two_tabs(self) -> None:
        """Each tab sees the other's WebSocket as the person's own."""
        with self.second_tab() as (first, _):
            for tab in (None, first):
                if tab:
                    self.browser.to_tab(tab)
                self.browser.until(
                    "document.querySelectorAll('#workers .dots i.mine').length === 2"
                )
        self.browser.until("document.querySelectorAll('#workers .dots i.mine').length === 1")

    def upload(self, data: bytes) -> dict[str, str]:
        file = Path(self.mktemp()).resolve()
        file.write_bytes(data)
        self.browser.type("#file", str(file))
        self.browser.click("#send button")
        self.browser.until("!document.getElementById('verdict').hidden")
        names = ("verdict", "r-worker", "r-size", "r-there", "r-here")
        return {name: self.browser.text(f"#{name}") for name in names}

    def test_upload(self) -> None:
        """The session's worker confirms size and sha256, the browser agrees, the bar is full."""
        data = random.Random(1).randbytes(5_000_001)
        digest = hashlib.sha256(data).hexdigest()
        self.assertEqual(
            self.upload(data),
            {
                "verdict": "✓ Every byte arrived: size and sha256 are the same here and there.",
                "r-worker": self.serving(),
                "r-size": "5,000,001 bytes",
                "r-there": digest,
                "r-here": digest,
            },
        )
        self.assertEqual(self.browser.script("return document.getElementById('bar').value"), 1)

    def test_empty_upload(self) -> None:
        """An empty file arrives, too."""
        self.assertEqual(self.upload(b"")["r-there"], hashlib.sha256().hexdigest())

    def test_browser_without_crypto(self) -> None:
        """On plain http from another host the browser does not hash; the worker's sum is shown."""
        self.browser.script("Object.defineProperty(crypto, 'subtle', { value: undefined })")
        shown = self.upload(b"abc")
        self.assertEqual(shown["r-there"], hashlib.sha256(b"abc").hexdigest())
        self.assertEqual(shown["verdict"], "The size is the same here and there.")

    def test_chat_across_workers(self) -> None:
        """What one tab says, a tab on the other worker reads, letter for letter."""
        text = "<b>hello</b> &amp; \N{GRINNING FACE}"
        speaker = self.serving()
        with self.second_tab() as (first, second):
            self.assertNotEqual(self.serving(), speaker)
            self.browser.to_tab(first)
            name = self.browser.script("return document.getElementById('name').value")
            self.browser.script("document.getElementById('text').value = arguments[0]", text)
            self.browser.click("#post")
            for tab in (second, first, second):
                self.browser.to_tab(tab)
                self.browser.until("document.querySelectorAll('#log li').length === 2")
                self.assertEqual(
                    self.browser.texts("#log li:last-child"), [f"{speaker}{name} {text}"]
                )

    def comes_back(self, number: int, to: int, ended: Set[int]) -> None:
        """Sends a process a signal that ends these workers; the tab has to go on with another."""
        before = self.browser.text("#socket")
        os.kill(to, number)
        self.browser.until("here !== null && $('socket').textContent !== arguments[0]", before)
        self.browser.type("#text", "still here")
        self.browser.click("#post")
        self.browser.until("$('log').textContent.includes('still here')")
        self.assertEqual(self.browser.text("#lost"), "")
        self.demo.wait_ready(gone=ended)

    def test_worker_dies(self) -> None:
        """When its worker is killed, the page comes back by itself and can chat again."""
        pid = int(self.browser.text("#socket").rsplit(" ", 1)[1])
        self.comes_back(signal.SIGKILL, to=pid, ended={self.browser.script("return here")})

    def test_rolling_reload(self) -> None:
        """A rolling reload takes the page to a new worker, where it can chat again."""
        self.comes_back(signal.SIGHUP, to=self.demo.pid, ended=self.demo.ready())

    def test_moves(self) -> None:
        """A button reloads the cluster: the WebSocket moves, unbroken, and its counter with it."""
        before, gone = self.browser.text("#socket"), self.demo.ready()
        self.browser.script("window.was = socket")
        self.browser.click("#more")
        self.browser.until("$('count').textContent === '1'")
        self.browser.click("#reload")
        self.browser.until("$('socket').textContent !== arguments[0]", before)
        self.assertNotEqual(self.browser.text("#moved"), "never")
        self.browser.click("#more")
        self.browser.until("$('count').textContent === '2'")
        self.demo.wait_ready(gone=gone)
        self.assertTrue(self.browser.script("return socket === window.was"))

    def test_console_is_silent(self) -> None:
        """The browser finds no fault with the page: no error, and nothing asked from elsewhere."""
        self.browser.console()
        self.visit()
        self.upload(b"abc")
        self.assertEqual(self.browser.console(), [])

    def fill(self) -> None:
        """Brings everything onto the page that can be on it."""
        self.browser.click("#ask")
        self.browser.click("#others")
        self.upload(b"abc")
        self.browser.type("#text", "hello " * 20 + "x" * 100)
        self.browser.click("#post")
        self.browser.until("document.querySelectorAll('#log li').length === 2")
        self.browser.until("document.querySelectorAll('#theirs li').length === 10")

    def test_fits_the_screen(self) -> None:
        """On a phone and on a desk nothing is wider than the screen."""
        self.fill()
        for width, height in (PHONE, DESK, (320, 568)):
            self.browser.shape(width, height)
            page = self.browser.script("return document.documentElement.scrollWidth")
            self.assertLessEqual(page, width)

    def test_picture_for_the_documentation(self) -> None:
        """The screen is a PNG that README and documentation can show (tests/pictures.py)."""
        self.browser.shape(1100, 740)
        self.browser.click("#ask")
        self.browser.click("#others")
        self.browser.type("#text", "Hello to all workers!")
        self.browser.click("#post")
        self.browser.until("document.querySelectorAll('#log li').length === 2")
        self.browser.until("document.querySelectorAll('#theirs li').length === 10")
        self.browser.until("document.querySelectorAll('.flying').length === 0")
        data = self.browser.picture("demo")
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        self.assertLess(len(data), MOST)

    def test_contrast(self) -> None:
        """In light and in dark all text can be read (WCAG 2.2 AA: 4.5 to 1)."""
        self.fill()
        for dark in (False, True):
            self.browser.shape(*DESK, dark=dark)
            self.assertEqual(self.browser.script(FAINT_TEXT), [])

    def test_every_control_has_a_name(self) -> None:
        """Software that reads the page aloud has a name for all that can be used."""
        self.fill()
        controls = self.browser.elements("button, input, progress, [role=log]")
        self.assertGreater(len(controls), 8)
        self.assertNotIn("", [self.browser.label(control) for control in controls])

    def test_calm(self) -> None:
        """Nothing flies for a person who asked for less motion."""
        self.browser.devtools(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-reduced-motion", "value": "reduce"}],
        )
        self.browser.script("fly(pool.workers[0], 3)")
        self.assertEqual(self.browser.elements(".flying"), [])
