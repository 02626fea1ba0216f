"""What Streamlit runs for each session: a count in its state, and an upload."""

from __future__ import annotations

import os

import streamlit as st

st.session_state.setdefault("count", 0)
if st.button("More", key="more"):
    st.session_state["count"] += 1
with st.container(key="count"):
    st.write(f"{st.session_state['count']} {os.getpid()}")
file = st.file_uploader("File", key="file")
if file is not None:
    with st.container(key="uploaded"):
        st.write(f"uploaded {len(file.getvalue())}")
