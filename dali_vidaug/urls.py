"""Paths that are URLs: of object stores and web servers."""

from __future__ import annotations

import re
from urllib.parse import unquote

_BUCKETS = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_URL = re.compile(rf"{_SCHEME.pattern}([^\s\"'<>]*)")
_AUTHORITY = re.compile(r"[^/?]*")
_NO_PORT = re.compile(r":(?!\d*$)(?![^\[]*\])")  # a colon that stands neither before a port nor in an IPv6 address
_SIGNATURE = re.compile(  # of URLs that are signed for others
    r"(?i)\b(x-(?:amz|goog)-[\w-]+|sig|signature|awsaccesskeyid|googleaccessid)=[^&\s\"')]*"
)
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
    found = _SCHEME.match(url)
    scheme, rest = (found[1].lower(), url[found.end() :]) if found else ("", url)
    if scheme not in SCHEMES:
        raise ValueError(f"{hide_secrets(url)}: URLs must begin with {', '.join(f'{name}://' for name in SCHEMES)}")
    secret = _without_password(scheme, rest) != rest
    if scheme not in _BUCKETS:
        if secret or "?" in rest:
            raise ValueError(
                f"{hide_secrets(url)}: a URL with a signature, a query or a password is not kept, because others read "
                "manifests. Name the object by its bucket, s3://bucket/key; credentials come from the environment"
            )
    elif secret or _SIGNATURE.search(rest):
        raise ValueError(f"{hide_secrets(url)}: credentials come from the environment, or from Storage(options=)")
    if not _AUTHORITY.match(rest)[0]:  # type: ignore[index]
        raise ValueError(f"{hide_secrets(url)}: there is no bucket or server in it, as in s3://bucket/folder")
    return url.rstrip("/")


def split_url(url: str) -> tuple[str, str]:
    """The bucket or server of a URL, as a URL, and the key of the object in it.

    In URLs of buckets, keys are as they are; in those of web servers they are quoted.

    >>> split_url("s3://bucket/a b/100%.mp4"), split_url("https://host:80/a%20b.mp4")
    (('s3://bucket', 'a b/100%.mp4'), ('https://host:80', 'a b.mp4'))
    """
    scheme, _, rest = url.partition("://")
    base, _, key = rest.partition("/")
    return f"{scheme}://{base}", unquote(key) if is_web(url) else key


def is_web(path: object) -> bool:
    """Whether a path is a URL of a web server, in which names are quoted."""
    return is_url(path) and str(path).partition("://")[0].lower() in ("http", "https")


def hide_secrets(text: str) -> str:
    """A text without the queries, passwords and signatures of its URLs.

    >>> hide_secrets("no s3://KEY:SEC/RET@bucket/a.mp4, https://host/a.mp4?sig=1")
    'no s3://***@bucket/a.mp4, https://host/a.mp4?***'
    """
    text = _URL.sub(lambda found: f"{found[1]}://{_without_password(found[1].lower(), found[2])}", text)
    text = re.sub(r"\?[^\s\"')]*", "?***", text)
    return _SIGNATURE.sub(lambda found: f"{found[1]}=***", text)


def _without_password(scheme: str, rest: str) -> str:
    """What follows :// in a URL, with *** for a user and password; a password may have slashes and more @ in it."""
    authority = _AUTHORITY.match(rest)[0]  # type: ignore[index]
    password = ":" in authority if scheme in _BUCKETS else _NO_PORT.search(authority) is not None
    if password and "@" in rest:
        return f"***@{rest.rpartition('@')[2]}"
    if password and scheme in _BUCKETS:
        return f"***{rest[len(authority) :]}"
    if "@" in authority and not scheme.startswith("abfs"):  # there it is the container
        return f"***@{authority.rpartition('@')[2]}{rest[len(authority) :]}"
    return rest
