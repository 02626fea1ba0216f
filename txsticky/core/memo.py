"""
What a memo may cost in memory.

Whatever is remembered between requests is chosen by clients: the letters of a head, an address, a
tag. So each memo has a bound in bytes, which follows from two numbers: how many entries it has,
and how long the longest text is that enters it. A longer one is worked out each time.
"""

from __future__ import annotations

from typing import Final

#: No memo holds more than this, in bytes.
MEMO_LIMIT: Final = 16 << 20
#: What an entry costs beside its text: links, a key of several parts, a small result. In bytes.
ENTRY: Final = 512


def entries(count: int, longest: int) -> int:
    """
    How many entries a memo may have, which is what it asks for if that is within `MEMO_LIMIT`.

    Every memo of the package is made with the number that this returns (tests/core/test_memo.py).

    :param count: the entries that it asks for.
    :param longest: the longest text of an entry, in bytes; its owner lets no longer one in.
    :returns: `count`.
    :raises ValueError: so many entries of that size are more than `MEMO_LIMIT`.
    """
    if count * (longest + ENTRY) > MEMO_LIMIT:
        raise ValueError(
            f"A memo of {count} entries of {longest} bytes could hold more than {MEMO_LIMIT} bytes."
        )
    return count
