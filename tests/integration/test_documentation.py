"""The documentation is built as for readers: its links, its words, and what a search finds."""

from __future__ import annotations

import functools
import json
import os
import pickle
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from docutils import nodes
from snowballstemmer import EnglishStemmer
from sphinx.search.en import ENGLISH_STOPWORDS
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "_extensions"))

import words  # noqa: E402

#: What users asked and found nowhere, as they would type it, and the page that answers.
QUESTIONS = {
    "flask-socketio async_mode": "guides/flask-socketio",
    "flask-socketio rooms manager": "guides/flask-socketio",
    "emit from celery": "guides/socketio",
    "requests while starting wait": "operate/start",
    "signal 9": "troubleshooting",
    "graceful timeout stop": "operate/stop",
    "threads": "operate/tuning",
    "log level": "operate/logs",
    "access log file": "operate/logs",
    "configuration file toml": "settings",
    "alerts": "operate/metrics",
    "metrics lag given": "operate/metrics",
    "generation": "glossary",
    "suspect": "glossary",
    "memory worker": "faq",
    "supported versions python": "versions",
    "deprecated": "versions",
    "package index wheel": "install",
    "local user": "security",
    "forged header": "security",
    "report hole": "security",
    "code in the primary": "faq",
    "protocol sid http key": "guides/protocols",
    "systemd hardened": "deploy/systemd",
    "session survives reload restart upgrade": "operate/reload",
    "exit code 3": "operate/signals",
    "requests get 503": "troubleshooting",
    "kubernetes": "deploy/containers",
    "root path": "deploy/proxies",
    "proxy protocol": "deploy/proxies",
    "client address proxy": "deploy/proxies",
    "websocket close reload move": "guides/moving-websockets",
    "mcp session": "guides/mcp",
    "scheduler once leader": "guides/leader",
    "gunicorn timeout": "migrating",
    "keep-alive": "operate/tuning",
    "cookie insert": "cookbook",
    "open files limit": "troubleshooting",
    "current thread": "reference",
    "tac file twistd": "embedding",
}
#: Of so many results one is the page.
SEEN = 6


@functools.cache
def built() -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The documentation, in a folder of this trial, and what the build said."""
    folder = Path("documentation").resolve()
    command = ("-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(folder))
    return folder, subprocess.run(
        [sys.executable, "-m", "sphinx", *command], capture_output=True, text=True, check=False
    )


class BuildTests(SynchronousTestCase):
    """One build, as CI makes it: with a warning for each link that leads nowhere."""

    maxDiff = None

    def setUp(self) -> None:
        self.folder, self.said = built()

    def trees(self) -> dict[str, nodes.document]:
        """The pages as Sphinx has read them, by name."""
        below = self.folder / ".doctrees"
        return {
            path.relative_to(below).with_suffix("").as_posix(): pickle.loads(path.read_bytes())
            for path in below.rglob("*.doctree")
        }

    def test_build(self) -> None:
        """The build has nothing to complain of."""
        self.assertEqual((self.said.returncode, self.said.stderr), (0, ""))

    def test_words(self) -> None:
        """No page uses a word of the glossary before it links to it."""
        known = words.terms((DOCS / "glossary.rst").read_text())
        self.assertGreater(len(known), 30)
        find = words.pattern(known)
        early, seen = [], set()
        for name, tree in self.trees().items():
            if name in words.EXEMPT:
                continue
            linked = set()
            for text in tree.findall(nodes.Text):
                reference = text.parent.parent
                if isinstance(reference, words.addnodes.pending_xref):
                    if reference.get("reftype") == "term":
                        linked.add(str(reference["reftarget"]).lower())
                elif words.is_prose(text):
                    used = {found[1].lower() for found in find.finditer(str(text))}
                    early += [f"{name}: {word}" for word in used - linked]
            seen |= linked
        self.assertEqual(early, [])
        self.assertGreater(len(seen), 25)

    def test_search(self) -> None:
        """What users asked is found by the documentation's own search, among the first results."""
        index = Index(self.folder / "searchindex.js")
        missed = {
            question: found
            for question, page in QUESTIONS.items()
            if page not in (found := index.search(question)[:SEEN])
        }
        self.assertEqual(missed, {})

    def test_extra_that_is_missing(self) -> None:
        """Without a package whose interface the reference shows, there is no documentation."""
        for module in ("socketio", "channels"):
            code = f"import sys; sys.modules[{module!r}] = None; exec(open('conf.py').read())"
            done = subprocess.run(
                [sys.executable, "-c", f"__file__ = 'conf.py'; {code}"],
                cwd=DOCS,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(
                f"No module named '{module}", done.stderr.replace("import of ", "No module named '")
            )


class Index:
    """Sphinx's search, as far as it ranks pages: all words of a question, titles before text."""

    def __init__(self, path: Path) -> None:
        text = path.read_text()
        self._index: dict[str, Any] = json.loads(text[text.index("{") : text.rindex("}") + 1])
        self._stem = EnglishStemmer().stemWord

    def _pages(self, table: str, word: str) -> set[int]:
        """The pages that a table has a word of; if it has not, one that the word is part of."""
        terms = self._index[table]
        stem = self._stem(word)
        found: set[int] = set()
        for term in [stem] if stem in terms else [term for term in terms if word in term]:
            pages = terms[term]
            found |= {pages} if isinstance(pages, int) else set(pages)
        return found

    def search(self, question: str) -> list[str]:
        """The names of the pages that have all words, the best first."""
        scores: defaultdict[int, int] = defaultdict(int)
        every = None
        words = question.lower().replace("-", " ").split()
        for word in words:
            if word in ENGLISH_STOPWORDS or word.isdecimal():  # as the page's script does
                continue
            titles, text = self._pages("titleterms", word), self._pages("terms", word)
            for page in titles | text:
                scores[page] += 15 * (page in titles) + 5 * (page in text)
            every = (titles | text) if every is None else every & (titles | text)
        best = sorted(every or (), key=lambda page: -scores[page])
        return [self._index["docnames"][page] for page in best]
