"""Streamlit, as an ASGI application."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

app = st.App(Path(__file__).with_name("streamlit_script.py"))
