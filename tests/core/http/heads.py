"""Heads as tests need them."""

from __future__ import annotations

from txsticky.core.how import How
from txsticky.core.http.head import Head, parse_head
from txsticky.core.http.steps import Known, known


def head_of(data: bytes) -> Head:
    """The head at the beginning of a request."""
    head = parse_head(data, 1 << 20)
    assert isinstance(head, Head), head
    return head


def known_of(data: bytes, how: How = How.NEW) -> Known:
    """What is remembered of a request."""
    found = known(head_of(data), how)
    assert found is not None
    return found
