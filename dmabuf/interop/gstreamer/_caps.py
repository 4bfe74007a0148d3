"""Caps: GStreamer's text for what a stream is, and our pixel formats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

from dmabuf._record import record
from dmabuf.image import ColorEncoding, ColorRange, Image
from dmabuf.image.formats import LINEAR, from_drm
from dmabuf.image.layout import PixelFormat, fourcc
from dmabuf.interop.gstreamer._colorimetry import colorimetry, parse_colorimetry
from dmabuf.interop.gstreamer._formats import NAMES, find_format

_MOST_TEXT = 1 << 16
_MOST_PIXELS = 1 << 31
_HEAD = re.compile(r"\s*([A-Za-z][\w/.+-]*)\s*(?:\(([^)]*)\))?\s*")
_NAME = re.compile(r"\s*,\s*([A-Za-z][\w/.+:-]*)\s*=\s*(?:\(\s*([\w/.+:-]+)\s*\)\s*)?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_LIST = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]|<[^<>]*>")
_PLAIN = re.compile(r"[^,;\"]+")
_DRM_FORMAT = re.compile(r"(.{4}|\w{1,4})(?::(0[xX][0-9a-fA-F]{1,16}))?", re.DOTALL)


@record
class Picture(NamedTuple):
    """The format of the frames of a video stream."""

    format: PixelFormat
    """The pixel format."""
    width: int
    """The number of pixels in a row."""
    height: int
    """The number of rows."""
    modifier: int
    """The DRM modifier; 0 is linear."""
    color_encoding: ColorEncoding | None = None
    """The encoding of luma and chroma; None if it is unknown."""
    color_range: ColorRange | None = None
    """The numeric range of the samples; None if it is unknown."""


@record
class Caps(NamedTuple):
    """The format of a stream, as GStreamer describes it.

        caps = gstreamer.parse_caps("video/x-raw, format=(string)NV12, width=(int)64, height=48")
        caps.fields["format"]  # "NV12"
        caps.picture().format  # PixelFormat NV12

    `parse_caps` returns it, and `Source.caps` holds that of a stream.
    """

    media_type: str
    """The media type, such as "video/x-raw" or "image/jpeg"."""
    features: tuple[str, ...]
    """The kind of memory, if it is given: "memory:DMABuf"."""
    fields: Mapping[str, str]
    """The other fields, as text without their types."""

    def picture(self) -> Picture:
        """Return the format of the frames.

        ValueError unless they are raw video in a known format.
        """
        if self.media_type != "video/x-raw":
            raise ValueError(
                f"a stream of {self.media_type} has no pixels; use copy() of its frames"
            )
        size = self._pixels("width"), self._pixels("height")
        colors = parse_colorimetry(self.fields.get("colorimetry", ""))
        name = self.fields.get("format", "")
        if name != "DMA_DRM":
            return Picture(find_format(name), *size, LINEAR, *colors)
        text = self.fields.get("drm-format", "")
        found = _DRM_FORMAT.fullmatch(text)
        if found is None or not found[1].isascii():
            raise ValueError(f"drm-format={text!r} is not a four-character code with a modifier")
        return Picture(from_drm(fourcc(found[1])), *size, int(found[2] or "0", 16), *colors)

    @property
    def frame_rate(self) -> Fraction | None:
        """The number of frames per second; None if it is not given, or 0, which means any."""
        found = re.fullmatch(r"(\d{1,10})/(\d{1,10})", self.fields.get("framerate", ""))
        if found is None or not int(found[1]) or not int(found[2]):
            return None
        return Fraction(int(found[1]), int(found[2]))

    def _pixels(self, field: str) -> int:
        text = self.fields.get(field, "")
        if not re.fullmatch(r"\d{1,10}", text) or not 1 <= int(text) < _MOST_PIXELS:
            raise ValueError(f"caps whose {field} is {text!r}, not a number of pixels")
        return int(text)


def parse_caps(text: str) -> Caps:
    """Return the caps that a text describes. ValueError unless it is one structure of caps.

    Fields keep their text, also ranges and lists, which a running stream does not have.
    """
    head = _HEAD.match(text) if len(text) <= _MOST_TEXT else None
    if head is None:
        raise ValueError(f"these are not caps of GStreamer: {text[:80]!r}")
    features = tuple(filter(None, (word.strip() for word in (head[2] or "").split(","))))
    fields: dict[str, str] = {}
    place = head.end()
    while place < len(text) and text[place:].strip(" ;\n\t"):
        name = _NAME.match(text, place)
        if name is None:
            raise ValueError(f"caps of GStreamer that can't be read from {text[place:][:40]!r} on")
        value = (
            _QUOTED.match(text, name.end())
            or _LIST.match(text, name.end())
            or _PLAIN.match(text, name.end())
        )
        if value is None:
            raise ValueError(f"caps of GStreamer without a value of {name[1]!r}")
        quoted = value.re is _QUOTED
        fields[name[1]] = re.sub(r"\\(.)", r"\1", value[1]) if quoted else value[0].strip()
        place = value.end()
    return Caps(head[1], features, MappingProxyType(fields))


def caps(image: Image, *, frame_rate: Fraction | int | None = None, drm: bool = False) -> str:
    """Return the caps of an image, for `gst-launch-1.0`, an appsrc, or a `Sink`.

        gstreamer.caps(image, frame_rate=30)
        # video/x-raw, format=(string)NV12, width=(int)640, height=(int)480, …

    With `drm`, or if the image has a modifier, they are `video/x-raw(memory:DMABuf)` with a
    `drm-format`, which only importers of dma-bufs accept. `frame_rate` is in frames per second.
    ValueError if GStreamer has no such format.
    """
    about = image.format, image.width, image.height, image.modifier
    picture = Picture(*about, image.color_encoding, image.color_range)
    return caps_text(picture, frame_rate=frame_rate, drm=drm)


def caps_text(picture: Picture, *, frame_rate: Fraction | int | None, drm: bool) -> str:
    """Return the caps of a picture; see `caps`."""
    feature, words = _described(picture, drm=drm)
    size = f"width=(int){picture.width}, height=(int){picture.height}"
    text = f"video/x-raw{feature}, {words}, {size}"
    colors = colorimetry(picture.color_encoding, picture.color_range)
    if colors is not None and picture.format.model == "YUV":
        text += f", colorimetry=(string){colors}"
    if frame_rate is not None:
        rate = Fraction(frame_rate)
        text += f", framerate=(fraction){rate.numerator}/{rate.denominator}"
    return text


def _described(picture: Picture, *, drm: bool) -> tuple[str, str]:
    """Return the feature of the memory, and the fields of the format."""
    if drm or picture.modifier != LINEAR:
        if picture.format.drm is None:
            raise ValueError(f"DRM has no code for {picture.format}, so it has no drm-format")
        code = picture.format.drm.to_bytes(4, "little").decode("ascii")
        if picture.modifier != LINEAR:
            code += f":0x{picture.modifier:016x}"
        return "(memory:DMABuf)", f'format=(string)DMA_DRM, drm-format=(string)"{code}"'
    try:
        name, _ = NAMES[picture.format.name]
    except KeyError:
        raise ValueError(
            f"GStreamer has no name for {picture.format}; push it with drm=True, or as bytes with"
            " caps of your own"
        ) from None
    return "", f"format=(string){name}"
