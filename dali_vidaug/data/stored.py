"""What a manifest is made of, in its file and in a pickle."""

from __future__ import annotations

import logging
import os
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from dali_vidaug.data.entry import name_some, plural
from dali_vidaug.data.index_table import IndexTable, index_path, read_table, write_used
from dali_vidaug.data.names import check_root
from dali_vidaug.data.schema import Broken, check_file_name, read_file, write_file
from dali_vidaug.data.shared import Shared
from dali_vidaug.urls import hide_secrets, is_url, is_web

log = logging.getLogger("dali_vidaug")


class Contents(NamedTuple):
    """The arguments of ``Manifest``, in order; and the mapped file of its table, or None.

    Attributes:
        table: None in a pickle of a mapped one.
        shared: there, the manifest's file and its key.
    """

    table: pa.Table | None
    classes: tuple[str, ...]
    root: str
    broken: tuple[Broken, ...]
    remarks: tuple[str, ...]
    packets: IndexTable | None
    box_classes: tuple[str, ...]
    shared: Shared | tuple[str, str] | None


def write_contents(path: str | os.PathLike[str], contents: Contents) -> None:
    """Write a manifest's file, and that of its packet indices, as ``Manifest.write`` does.

    Raises:
        ValueError: the name is not one of a Parquet file.
    """
    check_file_name(path, "Manifest.write")
    table, name = write_used(contents.table, contents.packets, index_path(path))
    header = {
        "classes": contents.classes, "root": contents.root, "broken": [[b.path, b.reason] for b in contents.broken],
        "remarks": contents.remarks, "packet_index": name, "box_classes": contents.box_classes,
    }  # fmt: skip
    write_file(path, table, header)


def read_contents(path: str | os.PathLike[str], root: str | os.PathLike[str] | None) -> Contents:
    """Read a manifest's file, and the packet indices beside it.

    Args:
        path: the file.
        root: the folder or URL of its paths; None: as the file says.

    Raises:
        FileNotFoundError, ValueError: as ``Manifest.read``.
    """
    check_root(root)
    table, header, shared = read_file(path)
    if root is not None:
        _check_moved(path, table, header["root"], str(root))
    name = header.get("packet_index")
    return Contents(
        table, header["classes"], header["root"] if root is None else str(root),
        tuple(Broken(*b) for b in header["broken"]), header["remarks"],
        None if name is None else read_table(index_path(path), name), header.get("box_classes", ()), shared,
    )  # fmt: skip


def _check_moved(path, table, root, to):
    """Refuse to take names for those of other files: in URLs of web servers they are quoted, elsewhere as they are."""
    for pattern, kind in ((r"^/", "path"), (r"^[A-Za-z][A-Za-z0-9+.-]+://", "URL")):
        count = pc.sum(pc.match_substring_regex(table["path"], pattern)).as_py() or 0
        if count and kind == "path" and is_url(to):
            raise ValueError(
                f"{path}: {plural(count, 'row')} of {len(table)} have complete paths, which cannot be below "
                f"{hide_secrets(to)}: make the manifest there, or of paths that are relative to one folder"
            )
        if count:
            told = f"{plural(count, 'row')} of {len(table)} have complete {kind}s, and stay where they are"
            log.warning("%s: root= moves relative names alone: %s", path, told)
    if is_web(root) == is_web(to):
        return
    for column in ("path", "shard"):
        odd = [n for n in table[column].unique().to_pylist() if n is not None and not is_url(n) and unquote(n) != n]
        if odd:
            raise ValueError(
                f"{path}: names are quoted (%20 for a space) in URLs of web servers, and nowhere else, so that in "
                f"{hide_secrets(to)} {plural(len(odd), 'name')} would be of other files ({name_some(odd)}): "
                "scan them there"
            )


def to_pickle(contents: Contents) -> Contents:
    """What is pickled: of a mapped table the name of its file, else all rows."""
    shared = contents.shared
    return contents._replace(table=None, shared=(shared.path, shared.key)) if isinstance(shared, Shared) else contents


def from_pickle(contents: Contents) -> Contents:
    """What was pickled.

    Raises:
        FileNotFoundError: the file of the table is not there.
        ValueError: it is another file now.
    """
    if not isinstance(contents.shared, tuple):
        return contents
    table, _, shared = read_file(*contents.shared)
    return contents._replace(table=table, shared=shared)
