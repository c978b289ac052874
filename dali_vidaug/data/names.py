"""File names that are not UTF-8, which Parquet's text cannot hold: stored without loss.

Python reads such a name with a lone surrogate for each byte that is not UTF-8. In a manifest that byte is written as
NUL and two hex digits. No file name has a NUL, so all other names are stored as they are.
"""

from __future__ import annotations

import re

_ESCAPED = re.compile("\0([0-9a-f]{2})")
_SURROGATE = re.compile("[\udc80-\udcff]")


def store_name(name: str) -> str:
    """A file name, as Python has it, as the text that a manifest stores.

    >>> store_name("a/caf\\udce9.mp4")
    'a/caf\\x00e9.mp4'
    """
    return _SURROGATE.sub(lambda found: f"\0{ord(found[0]) & 0xFF:02x}", name)


def restore_name(text: str) -> str:
    """The file name that ``store_name`` stored."""
    return _ESCAPED.sub(lambda found: chr(0xDC00 + int(found[1], 16)), text) if "\0" in text else text


def is_utf8(text: str) -> bool:
    """Whether text that Python read with ``surrogateescape`` is UTF-8."""
    return _SURROGATE.search(text) is None
