"""The configuration of the documentation: ``sphinx-build docs docs/_build``."""

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]

import txsticky  # noqa: E402

# What the reference shows of these would silently be left out if an extra were missing.
for module in ("txsticky.socketio.managers", "txsticky.channels.layer"):
    importlib.import_module(module)

project = "txsticky"
author = "The txsticky developers"
copyright = "2026, The txsticky developers"
version = release = txsticky.__version__
html_theme = "furo"
html_title = f"txsticky {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
extensions = ["sphinx.ext.autodoc", "drawings", "settings", "verdict", "words"]
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"  # none of those that are left out
autodoc_member_order = "bysource"
nitpicky = True
nitpick_ignore_regex = [
    # of other projects, whose documentation is not looked at
    ("py:.*", r"(collections|random|socket|twisted|error|socketio|channels)\..*"),
    # handed in by the cluster, and no matter of applications
    ("py:class", r"(Membership|Binder|BusClient|Leader|Departures)"),
    ("py:class", r"txsticky\.(api\._\w+|system\..*)"),
    ("py:exc", "TlsError"),
]
exclude_patterns = ["_build"]
highlight_language = "bash"
smartquotes = False  # --accept would become –accept


def without_constructor(app, what, name, obj, options, lines):
    """Leave out how the cluster makes an object that an application only gets."""
    if what == "class" and name == "txsticky.Here":
        lines[:] = [line for line in lines if not line.startswith((":param", "    "))]


def setup(app):
    """Connect to Sphinx (which calls it)."""
    app.connect("autodoc-process-docstring", without_constructor)
