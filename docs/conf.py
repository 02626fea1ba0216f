"""The configuration of the documentation: ``sphinx-build docs docs/_build``."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]

import txsticky  # noqa: E402

project = "txsticky"
author = "The txsticky developers"
copyright = "2026, The txsticky developers"
version = release = txsticky.__version__
html_theme = "furo"
html_title = f"txsticky {version}"
extensions = ["sphinx.ext.autodoc", "drawings"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False
exclude_patterns = ["_build"]
highlight_language = "none"
