"""Videos in buckets and on web servers: what is there, and which of them a list means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from dali_vidaug.data.entry import Entry, Listing, no_columns
from dali_vidaug.data.folder import is_video_name, list_objects
from dali_vidaug.data.list_source import Options
from dali_vidaug.data.shard_names import expand, is_pattern, is_shard_name
from dali_vidaug.data.shards import list_shards
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.objects import client_of
from dali_vidaug.urls import check_url, is_url, split_url

_LISTS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".pq")


def list_url(url: str, storage: Storage, options: Options) -> Listing:
    """The videos in a folder of a bucket, as ``list_folder``; or the one video, or the tar shards, that a URL names.

    Raises:
        OSError: the bucket cannot be listed.
        ValueError: there are no videos; or it is a list, or a folder of a web server.
    """
    if is_shard_name(url):
        return list_tar_urls(expand(url) if is_pattern(url) else [url], options, storage, url)
    url = check_url(url)
    key = split_url(url)[1]
    if is_video_name(key):
        root, _, name = url.rpartition("/")
        return Listing(root, [Entry(name, name)], {"": [()]}, no_columns(1))
    if os.path.splitext(key)[1].lower() in _LISTS:  # noqa: PTH122
        raise ValueError(
            f"scan: {url}: a list is read from this machine: copy it, and scan it with root={url.rpartition('/')[0]!r}"
        )
    objects = {name: stat for name, stat in client_of(storage).list(url) if name}
    if not objects:
        raise ValueError(f"scan: there are no objects in {url}/")
    tars = sorted(name for name in objects if is_shard_name(name) and not name.rpartition("/")[2].startswith("."))
    if tars and not any(map(is_video_name, objects)):
        return list_shards(url, tars, url, options, storage)
    return list_objects(url, objects)


def list_tar_urls(
    urls: Sequence[str], options: Options, storage: Storage, what: str = "the list of tar files"
) -> Listing:
    """The videos in tar shards that URLs name; ``what`` is for messages.

    Raises:
        ValueError: there are no videos, or one is no URL.
    """
    root, names = relative_urls(list(urls), None)
    return list_shards(what, names, Path() if root == "." else root, options, storage)


def relative_urls(names: Sequence[str], root: str | None) -> tuple[str, list[str]]:
    """The deepest URL that all of some URLs begin with, and the rest of each.

    Args:
        names: URLs; relative to ``root`` too, if there is one.
        root: a URL, to be taken instead; what does not begin with it stays complete.

    Raises:
        ValueError: one is no URL, or none that can be read.
    """
    if root is None:
        odd = next((name for name in names if not is_url(name)), None)
        if odd is not None:
            raise ValueError(f"scan: in a list of URLs all must be URLs, got {odd!r}; scan the others by themselves")
        folders = [name.split("/")[:-1] for name in map(check_url, names)]
        same = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))]
        if len(same) < 3:  # scheme, nothing, bucket
            return ".", list(names)
        root = "/".join(same)
    root = check_url(root)
    return root, [name.removeprefix(f"{root}/") for name in names]


def check_urls(listing: Listing) -> Listing:
    """Refuse URLs that cannot be read, or that have a secret in them, before anything else is done with them.

    Raises:
        ValueError: there is one.
    """
    for entry in listing.entries:
        if is_url(entry.path):
            check_url(entry.path)
    return listing
