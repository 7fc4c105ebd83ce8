"""Open untrusted zip files: total size and compression ratio are limited, and no member is read twice."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

HARMLESS_BYTES = 64 * 2**20  # small enough to unpack at any compression ratio
MAX_RATIO = 20  # weights and photographs hardly compress; an adapter of zeros does, but it is small
LOCAL_HEADER_BYTES = 30  # precedes a member's name, extra field and data
DAMAGE = (
    OSError, zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error,
    lzma.LZMAError, struct.error, ValueError, OverflowError,
)  # fmt: skip


class RefusedError(ValueError):
    """The archive is readable but not accepted; the message is a sentence for the user."""


@contextmanager
def zip_members(
    path: Path, *, wanted: Callable[[PurePosixPath], bool], max_bytes: int, damaged: str, name: str = ""
) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """Open a zip file for the duration of the block and yield it with its wanted members, after checking their sizes.

    Raises ValueError with the message ``damaged`` if anything in the block finds the file damaged, and RefusedError
    with a sentence that begins with ``name`` if the sizes are not accepted.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir() and wanted(place(one))]
            _check(members, max_bytes=max_bytes, name=name)
            yield archive, members
    except RefusedError:
        raise
    except DAMAGE:
        raise ValueError(damaged) from None


def place(member: zipfile.ZipInfo) -> PurePosixPath:
    """Return the path stored for a member. It is untrusted: never write to it."""
    return PurePosixPath(member.filename)


def _check(members: list[zipfile.ZipInfo], *, max_bytes: int, name: str) -> None:
    unpacked, packed = sum(one.file_size for one in members), sum(one.compress_size for one in members)
    allowed = min(max_bytes, max(HARMLESS_BYTES, MAX_RATIO * packed))
    if unpacked > allowed:
        raise RefusedError(f"{name} unpacks to more than {allowed >> 20} MB; choose a smaller one.".lstrip())
    end = 0
    for member in sorted(members, key=lambda one: one.header_offset):
        if member.header_offset < end:
            raise RefusedError(f"{name} contains overlapping files; pack it again.".lstrip())
        end = member.header_offset + LOCAL_HEADER_BYTES + member.compress_size
