"""Errors of object stores, in one sentence each."""

from __future__ import annotations

import re

from dali_vidaug.media.object_options import Storage
from dali_vidaug.urls import hide_secrets, split_url

_BAD_KEY = re.compile(
    r'[Pp]ath "(.*?)"(?:: Encountered illegal character sequence "(.*?)"| contained empty)', re.DOTALL
)
_REFUSED = {
    "SignatureDoesNotMatch": "the secret key is wrong",
    "InvalidAccessKeyId": "the access key is not known there",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "AccessDenied": "these credentials may not read it",
    "AllAccessDisabled": "these credentials may not read it",
}


def explain(error: Exception, url: str, storage: Storage, etag: str | None = None) -> Exception:
    """An error of obstore's as one of Python's, in one sentence, without secrets.

    Args:
        error: obstore's.
        url: of the object.
        storage: how it was read.
        etag: what it should have had, if that was asked for.
    """
    text, base = str(error), split_url(url)[0]
    code, status = (re.search(found, text) for found in (r"<Code>(\w+)</Code>", r"status code: (\d{3})"))
    name, number = code[1] if code else "", int(status[1]) if status else 0
    if isinstance(error, TimeoutError) or "kind: Timeout" in text:
        return TimeoutError(f"{base} did not answer within {storage.timeout:g} s (Storage.timeout)")
    if etag is not None and (number == 412 or type(error).__name__ == "PreconditionError"):
        return ValueError(changed("another ETag", etag))
    if number == 416 or (number == 400 and name == "InvalidArgument"):  # of a range
        return EOFError("changed since it was scanned: it is shorter; scan again")
    if name == "NoSuchBucket":
        return FileNotFoundError(f"there is no bucket {base}")
    if number == 404 or isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"there is no object {hide_secrets(url)}")
    if "169.254." in text or "metadata.google" in text or "credential" in text.lower()[:300]:
        return PermissionError(
            f"no credentials were found for {base}: set them in the environment, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY; or, for a public bucket, Storage(options={'skip_signature': True})"
        )
    if number in (401, 403):
        why = _REFUSED.get(name, "are the credentials right, and may they read it?")
        return PermissionError(f"{base} refuses the credentials: {why} ({name or number})")
    if number in (301, 307) or "LOCATION" in text:
        return OSError(f"{base} is in another region: set AWS_REGION, or Storage(options={{'region': ...}})")
    bad = _BAD_KEY.search(text)
    if bad:
        what = f'"{_shown(bad[2])}" in them' if bad[2] else "an empty name, as in a//b,"
        return ValueError(f"{hide_secrets(_shown(f'{base}/{bad[1]}'))}: keys with {what} cannot be read; rename them")
    tried = re.search(r"after (\d+) retries", text)
    what = f"it answered {number} {name}".rstrip() if number else hide_secrets(text.partition("\n")[0])[-200:]
    return OSError(f"{base} cannot be read{f' after {tried[1]} retries' if tried else ''}: {what}")


def _shown(key: str) -> str:
    """A key with escapes for what cannot be seen."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in key)


def changed(now: object, then: object) -> str:
    """What is said of an object that was replaced: what it has, and had."""
    return f"changed since it was scanned: it has {now}, and had {then}; scan again"
