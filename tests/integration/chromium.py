"""A headless Chromium, driven by chromedriver: the W3C WebDriver protocol is JSON over HTTP."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.integration.processes import SLACK, until

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
#: The pictures of the documentation, which are written when $PICTURES is set (tests/pictures.py).
PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver, 11: the key of an element's reference
START = 30.0


def missing() -> str | None:
    """Why no browser can be started here; None if one can."""
    absent = [tool for tool in ("chromium", "chromedriver") if shutil.which(tool) is None]
    return f"not installed: {' and '.join(absent)}" if absent else None


class Browser:
    """One browser with an empty profile of its own. A context manager."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(
            prefix="txsticky-test-", ignore_cleanup_errors=True
        )
        self._driver: subprocess.Popen[str] | None = None
        self._session = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                break
        else:
            raise AssertionError("chromedriver ended before it listened")
        self._session = f"http://127.0.0.1:{found[1]}/session"
        options = {"args": [*FLAGS, f"--user-data-dir={self._profile.name}"]}
        options["binary"] = shutil.which("chromium")
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._command("POST", "", capabilities={"alwaysMatch": wanted})
        self._session += f"/{session['sessionId']}"

    def close(self) -> None:
        """Ends the browser."""
        driver, self._driver = self._driver, None
        if driver is None:
            return
        try:
            if not self._session.endswith("/session"):
                self._command("DELETE", "")
        finally:
            driver.terminate()
            driver.communicate(timeout=60)
            self._profile.cleanup()

    def _command(self, method: str, path: str, **body: Any) -> Any:
        call = urllib.request.Request(
            self._session + path,
            method=method,
            data=json.dumps(body).encode() if method == "POST" else None,
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(call, timeout=SLACK * START) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as refusal:
            raise AssertionError(f"{path}: {refusal.read().decode()[:1000]}") from None

    def devtools(self, command: str, **parameters: object) -> Any:
        """A command of the Chrome DevTools protocol."""
        return self._command("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def shape(self, width: int, height: int, dark: bool = False) -> None:
        """Makes the screen that large, in CSS pixels; below 500 of width it is a phone."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, name: str) -> bytes:
        """The screen as PNG; when asked for, it becomes the documentation's picture `name`."""
        data = base64.b64decode(self._command("GET", "/screenshot"))
        if os.environ.get("PICTURES"):
            (PICTURES / f"{name}.png").write_bytes(data)
        return data

    def open(self, url: str) -> None:
        """Goes there, in the present tab."""
        self._command("POST", "/url", url=url)

    def tab(self) -> str:
        """The present tab."""
        return str(self._command("GET", "/window"))

    def new_tab(self) -> str:
        """Opens another tab and goes over to it."""
        tab = str(self._command("POST", "/window/new", type="tab")["handle"])
        self.to_tab(tab)
        return tab

    def to_tab(self, tab: str) -> None:
        """Goes over to that tab."""
        self._command("POST", "/window", handle=tab)

    def close_tab(self) -> None:
        """Closes the present tab and goes over to one that is left."""
        self.to_tab(self._command("DELETE", "/window")[0])

    def script(self, script: str, *arguments: object) -> Any:
        """What the body of a function returns in the page."""
        return self._command("POST", "/execute/sync", script=script, args=arguments)

    def text(self, css: str) -> str:
        """The text of the first element that the selector finds."""
        return str(self.script("return document.querySelector(arguments[0]).textContent", css))

    def texts(self, css: str) -> list[str]:
        """The texts of all that it finds."""
        return list(
            self.script(
                "return Array.from(document.querySelectorAll(arguments[0]), e => e.textContent)",
                css,
            )
        )

    def elements(self, css: str) -> list[str]:
        """References to all that it finds."""
        found = self._command("POST", "/elements", using="css selector", value=css)
        return [element[ELEMENT] for element in found]

    def label(self, element: str) -> str:
        """The name by which assistive software calls the element."""
        return str(self._command("GET", f"/element/{element}/computedlabel"))

    def click(self, css: str) -> None:
        """Clicks as a person does: what is hidden or covered cannot be clicked."""
        (element,) = self.elements(css)
        self._command("POST", f"/element/{element}/click")

    def type(self, css: str, text: str) -> None:
        """Types into the element; into a file field, the path of the file."""
        (element,) = self.elements(css)
        self._command("POST", f"/element/{element}/value", text=text)

    def until(self, fact: str, *arguments: object, what: str = "") -> Any:
        """Waits until a JavaScript expression is true in the page; returns its value."""
        values: list[Any] = []

        def asked() -> object:
            values[:] = [self.script(f"return {fact}", *arguments)]
            return values[0]

        until(asked, 15.0, what or fact)
        return values[0]

    def console(self) -> list[str]:
        """What the browser wrote to its console since the last call: faults of the page, mostly."""
        return [entry["message"] for entry in self._command("POST", "/se/log", type="browser")]
