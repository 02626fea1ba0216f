"""
Terms of the glossary, linked where a page uses them for the first time.

So no page uses a word of the glossary before it is explained. ``docs/glossary.rst`` has the words;
spellings of one word stand on lines of their own above its explanation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

GLOSSARY: Final = "glossary"
#: Pages that are no prose of ours, or that explain the words.
EXEMPT: Final = {GLOSSARY, "changes"}
#: In these a word stays as it is.
APART: Final = (
    nodes.literal,
    nodes.literal_block,
    nodes.title,
    nodes.reference,
    nodes.raw,
    nodes.comment,
    nodes.caption,
    nodes.field_name,
    nodes.rubric,
    addnodes.pending_xref,
    addnodes.desc_signature,
    addnodes.only,
    addnodes.toctree,
)


def terms(text: str) -> list[str]:
    """Return the words that a glossary explains, the longest first."""
    body = text.partition(".. glossary::")[2]
    found = re.findall(r"^ {3}([^\s:].*)$", body, re.MULTILINE)
    return sorted((word.strip() for word in found), key=len, reverse=True)


def pattern(words: list[str]) -> re.Pattern[str]:
    """Return what finds any of these words, in the singular or the plural; MISS is no miss."""
    either = "|".join(
        re.escape(word) if word.isupper() else f"(?i:{re.escape(word)})" for word in words
    )
    return re.compile(rf"(?<![\w/-])({either})(s?)(?![\w/-])")


def is_prose(text: nodes.Text) -> bool:
    """Whether a text is prose, and in no place in which a word stays as it is."""
    node: nodes.Node | None = text
    while node is not None and not isinstance(node, APART):
        node = node.parent
    return node is None


def prose(tree: nodes.Element) -> Iterator[nodes.Text]:
    """Yield the texts of a page that are prose, in their order."""
    return filter(is_prose, list(tree.findall(nodes.Text)))


def link(tree: nodes.Element, words: list[str], page: str) -> None:
    """Link each word where it stands for the first time."""
    by_name = {word.lower(): word for word in words}
    linked = {
        str(each["reftarget"]).lower()
        for each in tree.findall(addnodes.pending_xref)
        if each.get("reftype") == "term"
    }
    find = pattern(words)
    for text in prose(tree):
        pieces: list[nodes.Node] = []
        end = 0
        for found in find.finditer(str(text)):
            name = found[1].lower()
            if name in linked:
                continue
            linked.add(name)
            pieces += [nodes.Text(text[end : found.start()]), reference(by_name[name], found, page)]
            end = found.end()
        if pieces:
            text.parent.replace(text, [*pieces, nodes.Text(text[end:])])


def reference(word: str, found: re.Match[str], page: str) -> nodes.Node:
    """Return a link to a word of the glossary."""
    return addnodes.pending_xref(
        "", nodes.inline("", found[0], classes=["std", "std-term"]), refdomain="std",
        reftype="term", reftarget=word, refexplicit=True, refwarn=True, refdoc=page,
    )  # fmt: skip


def on_read(app: Sphinx, tree: nodes.document) -> None:
    """Link the words of a page (Sphinx calls it when it has read one)."""
    page = app.env.current_document.docname
    if page not in EXEMPT:
        glossary = Path(app.srcdir) / f"{GLOSSARY}.rst"
        app.env.note_dependency(str(glossary))
        link(tree, terms(glossary.read_text()), page)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx (which calls it)."""
    app.connect("doctree-read", on_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
