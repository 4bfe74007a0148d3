"""The meaning of the samples of a V4L2 frame: the order of its lines, and its colours.

The names and numbers are those of include/uapi/linux/videodev2.h. The kernel's documentation
explains them under "Colorspaces" and "Field Order".
"""

from __future__ import annotations

from dmabuf.devices.v4l2._enumeration import Enumeration
from dmabuf.image import ColorEncoding, ColorRange


class Field(Enumeration):
    """The order of a frame's lines: V4L2_FIELD.

        interlaced = camera.format().field is not v4l2.Field.NONE

    An interlaced frame has two fields, of the even and of the odd lines, taken one after the other.
    """

    ANY = 0
    """The driver does not report it."""
    NONE = 1
    """Progressive: all lines belong to one moment."""
    TOP = 2
    """The top field alone: lines 0, 2, 4, …"""
    BOTTOM = 3
    """The bottom field alone: lines 1, 3, 5, …"""
    INTERLACED = 4
    """Both fields, line by line; the video standard says which came first."""
    SEQ_TB = 5
    """Both fields, all lines of the top one first."""
    SEQ_BT = 6
    """Both fields, all lines of the bottom one first."""
    ALTERNATE = 7
    """Each frame is one field; top and bottom alternate."""
    INTERLACED_TB = 8
    """Both fields, line by line; the top one came first."""
    INTERLACED_BT = 9
    """Both fields, line by line; the bottom one came first."""


class Colorspace(Enumeration):
    """The colours of the primaries: V4L2_COLORSPACE.

        raw = camera.format().colorspace is v4l2.Colorspace.RAW

    It also decides the encoding, the quantization and the transfer function where those are
    DEFAULT.
    """

    DEFAULT = 0
    """The driver does not report it."""
    SMPTE170M = 1
    """SDTV."""
    SMPTE240M = 2
    """Early HDTV."""
    REC709 = 3
    """HDTV."""
    BT878 = 4
    """Deprecated: no driver has it."""
    NTSC_1953 = 5
    """NTSC of 1953; of historic interest."""
    PAL_1970 = 6
    """PAL and SECAM of 1970; of historic interest."""
    JPEG = 7
    """JPEG: sRGB with full-range Y'CbCr of Rec. 601."""
    SRGB = 8
    """Graphics and webcams."""
    OPRGB = 9
    """opRGB, also called Adobe RGB."""
    BT2020 = 10
    """UHDTV."""
    RAW = 11
    """Unprocessed samples of a sensor."""
    DCI_P3 = 12
    """Cinema projectors."""


class YCbCrEncoding(Enumeration):
    """The encoding of R'G'B' as Y'CbCr: V4L2_YCBCR_ENC.

        hd = camera.format().ycbcr_enc is v4l2.YCbCrEncoding.REC709

    `Format.color_encoding` resolves DEFAULT.
    """

    DEFAULT = 0
    """The colorspace decides."""
    REC601 = 1
    """ITU-R BT.601: SDTV."""
    REC709 = 2
    """ITU-R BT.709: HDTV."""
    XV601 = 3
    """BT.601 with extended gamut."""
    XV709 = 4
    """BT.709 with extended gamut."""
    SYCC = 5
    """Deprecated: the same as BT.601."""
    BT2020 = 6
    """BT.2020, non-constant luminance: UHDTV."""
    BT2020_CONST_LUM = 7
    """BT.2020, constant luminance."""
    SMPTE240M = 8
    """SMPTE 240M: early HDTV."""


class Quantization(Enumeration):
    """The numeric range of the samples: V4L2_QUANTIZATION.

        full = camera.format().quantization is v4l2.Quantization.FULL_RANGE

    `Format.color_range` resolves DEFAULT.
    """

    DEFAULT = 0
    """The colorspace decides; mostly full for RGB, limited for Y'CbCr."""
    FULL_RANGE = 1
    """All: 0 to 255 with 8 bits."""
    LIM_RANGE = 2
    """Limited: 16 to 235 with 8 bits, 16 to 240 for Cb and Cr."""


class TransferFunction(Enumeration):
    """The transfer function, from light to numbers: V4L2_XFER_FUNC.

        linear = camera.format().xfer_func is v4l2.TransferFunction.NONE

    DEFAULT stands for that of the colorspace.
    """

    DEFAULT = 0
    """The colorspace decides."""
    REC709 = 1
    """ITU-R BT.709."""
    SRGB = 2
    """sRGB."""
    OPRGB = 3
    """opRGB, also called Adobe RGB."""
    SMPTE240M = 4
    """SMPTE 240M."""
    NONE = 5
    """Linear light."""
    DCI_P3 = 6
    """Cinema projectors."""
    SMPTE2084 = 7
    """The perceptual quantizer (PQ) of HDR."""


_DEFAULT_ENCODINGS = {  # V4L2_MAP_YCBCR_ENC_DEFAULT
    Colorspace.REC709: YCbCrEncoding.REC709,
    Colorspace.DCI_P3: YCbCrEncoding.REC709,
    Colorspace.BT2020: YCbCrEncoding.BT2020,
    Colorspace.SMPTE240M: YCbCrEncoding.SMPTE240M,
}
_MATRICES = {
    YCbCrEncoding.REC601: ColorEncoding.BT601,
    YCbCrEncoding.XV601: ColorEncoding.BT601,
    YCbCrEncoding.SYCC: ColorEncoding.BT601,
    YCbCrEncoding.REC709: ColorEncoding.BT709,
    YCbCrEncoding.XV709: ColorEncoding.BT709,
    YCbCrEncoding.BT2020: ColorEncoding.BT2020,
    YCbCrEncoding.BT2020_CONST_LUM: ColorEncoding.BT2020,
    YCbCrEncoding.SMPTE240M: ColorEncoding.SMPTE240M,
}


def color_encoding(colorspace: Colorspace, encoding: YCbCrEncoding) -> ColorEncoding | None:
    """Return what an image of Y'CbCr has been encoded by; None for what is newer than this."""
    if encoding == YCbCrEncoding.DEFAULT:
        encoding = _DEFAULT_ENCODINGS.get(colorspace, YCbCrEncoding.REC601)
    return _MATRICES.get(encoding)


def color_range(
    colorspace: Colorspace, encoding: YCbCrEncoding, quantization: Quantization, model: str
) -> ColorRange | None:
    """Return the range of an image whose components are `model`; see `PixelFormat.model`."""
    if model == "YUV" and encoding in (YCbCrEncoding.XV601, YCbCrEncoding.XV709):
        return ColorRange.LIMITED  # there is no other: the rest is for colours beyond the gamut
    if quantization == Quantization.FULL_RANGE:
        return ColorRange.FULL
    if quantization == Quantization.LIM_RANGE:
        return ColorRange.LIMITED
    if model == "YUV":  # V4L2_MAP_QUANTIZATION_DEFAULT
        return ColorRange.FULL if colorspace == Colorspace.JPEG else ColorRange.LIMITED
    return ColorRange.FULL if model == "RGB" else None
