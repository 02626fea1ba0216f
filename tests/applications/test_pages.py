"""Applications that are pages: each is driven by Chromium."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from tests.applications.harness import ApplicationTestCase, node_modules, one
from tests.integration.chromium import Browser


class PageCase(ApplicationTestCase):
    """A page with a count and the process that counts, and a button for more of it.

    :cvar page: its path.
    :cvar count: a JavaScript expression for the text that has the count and the process.
    :cvar more: the selector of the button.
    """

    heavy = True
    browser = True
    page: ClassVar[str] = "/"
    count: ClassVar[str] = "document.querySelector('#count')?.textContent"
    more: ClassVar[str] = "#more"
    CLIENTS = 3

    def opened(self) -> Browser:
        """A browser of its own that has loaded the page."""
        browser = Browser()
        self.addCleanup(browser.close)
        browser.__enter__()
        browser.open(self.cluster.url + self.page)
        browser.until(f"/^0 [0-9]+$/.test({self.count} ?? '')", what="the page is loaded")
        return browser

    def told(self, browser: Browser) -> str:
        """The text with the count and the process."""
        return str(browser.script(f"return {self.count}"))

    def clicks(self, browser: Browser) -> str:
        """Clicks some times: each is one more, in one process, which is returned."""
        pids = []
        for number in range(1, 4):
            browser.until("document.querySelector(arguments[0])", self.more, what="the button")
            browser.click(self.more)
            browser.until(f"({self.count}).startsWith('{number} ')", what=f"count {number}")
            pids.append(self.told(browser).split()[1])
        return str(one(pids))

    def again(self, browser: Browser) -> None:
        """What a person does after a deployment: nothing if the page comes back by itself."""
        browser.open(self.cluster.url + self.page)
        browser.until(f"/^0 [0-9]+$/.test({self.count} ?? '')", what="the page is loaded again")

    def upload(self, browser: Browser, css: str, told: str) -> None:
        """Uploads a file, and is told its size."""
        file = Path(self.mktemp())
        file.write_bytes(b"x" * 70_000)
        (field,) = browser.elements(css)[:1]
        browser._command("POST", f"/element/{field}/value", text=str(file.resolve()))
        browser.until(f"({told} ?? '').startsWith('uploaded 70000')", what="the upload is told")

    def lives(self) -> None:
        """Some browsers count, before and after a reload."""
        browsers = [self.opened() for _ in range(self.CLIENTS)]
        before = {self.clicks(browser) for browser in browsers}
        self.assertGreater(len(before), 1, "the browsers are not spread")
        for browser in browsers[:1]:
            self.more_of_it(browser)
        self.cluster.reload()
        for browser in browsers:
            self.again(browser)
            self.assertNotIn(self.clicks(browser), before)
        self.proved()

    def more_of_it(self, browser: Browser) -> None:
        """What else the application does."""


class NiceGUITests(PageCase):
    """NiceGUI."""

    application = "NiceGUI"
    packages = ("nicegui",)
    served = "nicegui_page:app"
    done = "three browsers count, each in its page; an upload; the pages come back over a reload"

    def test_page(self) -> None:
        """Pages count in their own objects."""
        self.lives()

    def again(self, browser: Browser) -> None:
        """The page itself notices that the server has forgotten it, and loads anew."""
        browser.until(f"/^0 [0-9]+$/.test({self.count} ?? '')", what="the page comes back")

    def more_of_it(self, browser: Browser) -> None:
        self.upload(browser, "input[type=file]", self.count)


class DashTests(PageCase):
    """Dash."""

    application = "Dash, state in memory"
    packages = ("dash",)
    served = "dash_page:app"
    done = "three browsers count in the memory of callbacks; an upload; a reload"

    def test_page(self) -> None:
        """Callbacks count in the memory of a process."""
        self.lives()

    def more_of_it(self, browser: Browser) -> None:
        self.upload(browser, "input[type=file]", "document.querySelector('#uploaded')?.textContent")


class GradioTests(PageCase):
    """Gradio."""

    application = "Gradio: queue, state, upload, gr.render"
    packages = ("gradio",)
    served = "gradio_blocks:app"
    count = "document.querySelector('#told textarea, #told input')?.value"
    done = (
        "three browsers count in gr.State; a generator in the queue; an upload; gr.render; a reload"
    )

    def opened(self) -> Browser:
        browser = Browser()
        self.addCleanup(browser.close)
        browser.__enter__()
        self._load(browser)
        return browser

    def _load(self, browser: Browser) -> None:
        browser.open(self.cluster.url)
        browser.until("document.querySelector('#more') !== null", what="the page is loaded")

    def again(self, browser: Browser) -> None:
        self._load(browser)

    def test_page(self) -> None:
        """Queue, state, upload, render."""
        self.lives()

    def more_of_it(self, browser: Browser) -> None:
        browser.click("#slow")
        browser.until(f"({self.count} ?? '').startsWith('step 3')", what="the queue has told all")
        drawn = "document.querySelector('#drawn textarea, #drawn input')?.value"
        browser.until(f"({drawn} ?? '').startsWith('drawn step 3')", what="gr.render has drawn")
        self.upload(browser, "#file input[type=file]", self.count)


class ShinyTests(PageCase):
    """Shiny for Python."""

    application = "Shiny for Python"
    packages = ("shiny",)
    served = "shiny_page:app"
    done = "three browsers count in their sessions; an upload; a download; a reload"

    def test_page(self) -> None:
        """Sessions, upload, download."""
        self.lives()

    def more_of_it(self, browser: Browser) -> None:
        self.upload(browser, "#file", "document.querySelector('#uploaded')?.textContent")
        load = "fetch(document.querySelector('#download').href).then(r => r.text())"
        browser.script(f"{load}.then(text => window.got = text)")
        browser.until("window.got ?? ''", what="the download has come")
        self.assertEqual(browser.script("return window.got"), self.told(browser))


class PanelTests(PageCase):
    """Panel and Bokeh."""

    application = "Panel, Bokeh"
    packages = ("panel", "bokeh-fastapi")
    served = "panel_page:app"
    page = "/page"
    _ALL = (
        "(function all(root) { return [...root.querySelectorAll('*')].flatMap("
        "e => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]) })(document)"
    )
    count = f"{_ALL}.map(e => e.textContent).find(t => /^[0-9]+ [0-9]+$/.test(t))"
    done = "three browsers count in their sessions; a reload"

    def clicks(self, browser: Browser) -> str:
        pids = []
        for number in range(1, 4):
            browser.script(f"{self._ALL}.find(e => e.tagName === 'BUTTON').click()")
            browser.until(f"({self.count}).startsWith('{number} ')", what=f"count {number}")
            pids.append(self.told(browser).split()[1])
        return str(one(pids))

    def test_page(self) -> None:
        """Documents of sessions."""
        self.lives()


class StreamlitTests(PageCase):
    """Streamlit."""

    application = "Streamlit (st.App)"
    packages = ("streamlit",)
    served = "streamlit_page:app"
    count = "document.querySelector('.st-key-count p')?.textContent"
    more = ".st-key-more button"
    done = "three browsers count in st.session_state; an upload; a reload"

    def test_page(self) -> None:
        """Session state, upload."""
        self.lives()

    def more_of_it(self, browser: Browser) -> None:
        told = "document.querySelector('.st-key-uploaded p')?.textContent"
        self.upload(browser, "input[type=file]", told)


class ChainlitTests(PageCase):
    """Chainlit."""

    application = "Chainlit"
    packages = ("chainlit",)
    served = "chainlit_page:app"
    page = "/chat"
    count = (
        "[...document.querySelectorAll('[data-step-type=assistant_message]')].at(-1)?.textContent"
    )
    done = "three browsers count in their sessions; the chats begin anew over a reload"

    def setUp(self) -> None:
        type(self).environment = {"CHAINLIT_APP_ROOT": tempfile.mkdtemp(prefix="txsticky-chat-")}
        self.addCleanup(shutil.rmtree, self.environment["CHAINLIT_APP_ROOT"])
        super().setUp()

    def clicks(self, browser: Browser) -> str:
        pids = []
        for number in range(1, 4):
            browser.type("#chat-input", "more")
            browser.until("document.querySelector('#chat-submit')?.disabled === false")
            browser.click("#chat-submit")
            browser.until(f"({self.count}).startsWith('{number} ')", what=f"count {number}")
            pids.append(self.told(browser).split()[1])
        return str(one(pids))

    def again(self, browser: Browser) -> None:
        """The page comes back by itself, and the chat begins anew."""
        browser.until(f"/^0 [0-9]+$/.test({self.count} ?? '')", what="the chat begins anew")

    def test_page(self) -> None:
        """Chats count in their sessions."""
        self.lives()


class SockJSTests(PageCase):
    """SockJS, by its own client."""

    application = "SockJS (sockjs-channels)"
    packages = ("sockjs-channels", "uvicorn", "websockets")
    served = "sockjs_page:app"
    TRANSPORTS = ("websocket", "xhr-streaming", "xhr-polling")
    done = "three browsers count in their sessions: WebSocket, streaming, polling; a reload"

    def setUp(self) -> None:
        client = node_modules("sockjs-client") / "sockjs-client" / "dist" / "sockjs.min.js"
        type(self).environment = {"SOCKJS_CLIENT": str(client)}
        self.transports = iter(self.TRANSPORTS)
        super().setUp()

    def opened(self) -> Browser:
        self.page = f"/?transport={next(self.transports)}"  # type: ignore[misc]
        return super().opened()

    def again(self, browser: Browser) -> None:
        """The page connects again when its session is over."""
        browser.until(f"/^0 [0-9]+$/.test({self.count} ?? '')", what="the page has connected again")

    def test_page(self) -> None:
        """Sessions of each transport."""
        self.lives()


class FastMCPTests(ApplicationTestCase):
    """FastMCP."""

    application = "FastMCP"
    packages = ("fastmcp",)
    served = "fastmcp_server:app"
    heavy = True
    done = "calls of a tool are counted in their session, six sessions at once; a reload"

    def test_sessions(self) -> None:
        """Sessions stay with their worker, and a reload begins new ones."""
        before = asyncio.run(self.several())
        self.cluster.reload()
        self.assertFalse(before & asyncio.run(self.several()))
        self.proved()

    async def several(self) -> set[str]:
        """Some sessions at once; returns the processes that served them."""
        pids = set(await asyncio.gather(*(self.session() for _ in range(6))))
        self.assertGreater(len(pids), 1, "the sessions are not spread")
        return pids

    async def session(self) -> str:
        """One session, by FastMCP's own client, which has none where it may choose the protocol."""
        from fastmcp import Client

        told: list[list[str]] = []
        client: Any
        async with Client(f"{self.cluster.url}/mcp", mode="legacy") as client:
            for _ in range(5):
                answer = await client.call_tool("count", {})
                told.append(answer.content[0].text.split())
        self.assertEqual([count for count, _ in told], ["1", "2", "3", "4", "5"])
        return str(one(pid for _, pid in told))
