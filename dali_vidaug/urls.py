"""Paths that are URLs: of object stores and web servers."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

_BUCKETS = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
SCHEMES = (*_BUCKETS, "http", "https")


def is_url(path: object) -> bool:
    """Whether a path is a URL, of any kind.

    >>> is_url("s3://bucket/a.mp4"), is_url("/data/a.mp4"), is_url("C:/a.mp4")
    (True, False, False)
    """
    return isinstance(path, str) and "://" in path and _SCHEME.match(path) is not None


def check_url(url: str) -> str:
    """The URL, without slashes at its end, if it is one that can be read.

    Raises:
        ValueError: it is of another kind, or has a password or signature in it.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() not in SCHEMES:
        raise ValueError(f"{hide_secrets(url)}: URLs must begin with {', '.join(f'{name}://' for name in SCHEMES)}")
    if parts.scheme.lower() not in _BUCKETS:
        if parts.query or parts.username or parts.password:
            raise ValueError(
                f"{hide_secrets(url)}: a URL with a signature, a query or a password is not kept, because others read "
                "manifests. Name the object by its bucket, s3://bucket/key; credentials come from the environment"
            )
    elif parts.username and not parts.scheme.lower().startswith("abfs"):
        raise ValueError(f"{hide_secrets(url)}: credentials come from the environment, or from Storage(options=)")
    if not parts.netloc:
        raise ValueError(f"{url}: there is no bucket or server in it, as in s3://bucket/folder")
    return url.rstrip("/")


def split_url(url: str) -> tuple[str, str]:
    """The bucket or server of a URL, as a URL, and the key of the object in it.

    In URLs of buckets, keys are as they are; in those of web servers they are quoted.

    >>> split_url("s3://bucket/a b/100%.mp4"), split_url("https://host:80/a%20b.mp4")
    (('s3://bucket', 'a b/100%.mp4'), ('https://host:80', 'a b.mp4'))
    """
    scheme, _, rest = url.partition("://")
    base, _, key = rest.partition("/")
    return f"{scheme}://{base}", unquote(key) if scheme.lower() in ("http", "https") else key


def hide_secrets(text: str) -> str:
    """A text without the queries and passwords of its URLs."""
    return re.sub(r"(?<=://)[^/\s@]*:[^/\s@]*@", "***@", re.sub(r"\?[^\s\"')]*", "?***", text))
