"""HTML generation with every text escaped, and the copies of files that a browser may fetch.

Gradio's own HTML templates are not used: they run ``${...}`` as JavaScript even inside an escaped value.
"""

import hashlib
import html
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageFilter

from pipelines.data.masks import outlined
from pipelines.data.photographs import overview
from pipelines.files import TemporaryFolder

VOID_TAGS = frozenset({"img", "input", "br"})


class Html(str):
    """A string that is already HTML; any other string is escaped when it becomes a child."""


def element(tag: str, *children: str, **attributes: str | int | float | bool) -> Html:
    """Return one element. ``class_`` and ``data_x`` become class and data-x; an attribute that is False is omitted."""
    written = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for name, value in attributes.items()
        if value is not False
    )
    if tag in VOID_TAGS:
        return Html(f"<{tag}{written}>")
    inside = "".join(child if isinstance(child, Html) else html.escape(child) for child in children)
    return Html(f"<{tag}{written}>{inside}</{tag}>")


class BrowserCopies:
    """Copies of files for the browser, in a separate folder: nothing is served from a run folder.

    Copies that were not requested for two hours are removed, and so are those of a killed process.
    """

    def __init__(self) -> None:
        self._temporary = TemporaryFolder("atelier-handout-")
        self.folder = self._temporary.path

    def copy(self, path: Path, *, name: str = "") -> Path:
        """Return the copy of a file, under another ``name`` if given. An unchanged file is copied only once."""
        return self._made(_key(path), name or path.name, lambda unfinished: shutil.copyfile(path, unfinished))

    def write(self, name: str, text: str) -> Path:
        """Return a file with this name and text. The same text is written only once."""
        return self._made(text, name, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))

    def _made(self, key: str, name: str, make: Callable[[Path], object]) -> Path:
        """Return the file for a key and name, created if necessary, and mark it as used."""
        self._temporary.sweep()
        target = self.folder / hashlib.sha256(key.encode()).hexdigest()[:20] / name
        try:
            os.utime(target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, unfinished = tempfile.mkstemp(dir=target.parent)
            os.close(handle)
            try:
                make(Path(unfinished))
                os.replace(unfinished, target)
            finally:
                Path(unfinished).unlink(missing_ok=True)
        return target

    def enlarged(self, path: Path, *, side_px: int = 768) -> str:
        """Return the URL of a copy that is at least about ``side_px`` wide.

        Browsers enlarge small pictures with visible pixel steps; Lanczos filtering looks smoother.
        """
        with Image.open(path) as picture:
            factor = side_px // picture.width
            if factor < 2:
                return self.url(path)
            size = (picture.width * factor, picture.height * factor)
            target = self._made(
                _key(path),
                f"{path.stem}-x{factor}.png",
                lambda unfinished: _enlarge(picture, size, unfinished),
            )
        return self._address(target)

    def thumbnail(self, path: Path, *, side_px: int) -> str:
        """Return the URL of a copy that is at most ``side_px`` wide and high."""
        with Image.open(path) as picture:
            if max(picture.size) <= side_px:
                return self.url(path)
            target = self._made(
                _key(path),
                f"{path.stem}-{side_px}.png",
                lambda unfinished: _reduce(picture, side_px, unfinished),
            )
        return self._address(target)

    def overview(self, photo: Path) -> str:
        """Return the address of :meth:`overview_file`."""
        return self._address(self.overview_file(photo))

    def overview_file(self, photo: Path, *, side_px: int = 640) -> Path:
        """Return an upright, reduced copy of a whole photograph.

        Raises ValueError with one sentence if the file cannot be used as a photograph.
        """

        def reduce(unfinished: Path) -> None:
            overview(photo, side_px=side_px).save(unfinished, format="JPEG", quality=88)

        return self._made(_key(photo), f"overview-{side_px}.jpg", reduce)

    def outlined(self, photo: Path, mask: Path) -> str:
        """Return the address of a copy of a photograph with the outline of its mask."""
        target = self._made(
            _key(photo) + _key(mask),
            f"{photo.stem}-outlined.png",
            lambda unfinished: _outline(photo, mask, unfinished),
        )
        return self._address(target)

    def url(self, path: Path) -> str:
        """Return the URL, relative to the page, of a copy of this file."""
        return self._address(self.copy(path))

    def _address(self, copy: Path) -> str:
        return "gradio_api/file=" + quote(copy.as_posix(), safe="/:")

    def close(self) -> None:
        """Remove every copy."""
        self._temporary.close()


def _key(path: Path) -> str:
    """Return a key that identifies a file until it changes."""
    facts = path.stat()
    return f"{path.resolve()}|{facts.st_mtime_ns}|{facts.st_size}"


def _outline(photo: Path, mask: Path, target: Path) -> None:
    with Image.open(photo) as picture, Image.open(mask) as shape:
        outlined(picture, shape).save(target, format="PNG")


def _reduce(picture: Image.Image, side_px: int, target: Path) -> None:
    smaller = picture.convert("RGB")
    smaller.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    smaller.save(target, format="PNG")


def _enlarge(picture: Image.Image, size: tuple[int, int], target: Path) -> None:
    larger = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    smooth = larger.filter(ImageFilter.GaussianBlur(0.33 * size[0] / picture.width))
    smooth.save(target, format="PNG", compress_level=1)  # the page opens with dozens of them
