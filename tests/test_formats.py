"""The table of pixel formats: held against the headers, and what its names and codes give."""

import importlib.machinery
import importlib.util
from pathlib import Path

import pytest

from dmabuf import image
from dmabuf.image import FORMATS, fourcc, from_drm, from_v4l2, pixel_format

pytestmark = pytest.mark.needs("outside")  # it asks no kernel

SCRIPT = Path(__file__).parent.parent / "scripts" / "fourcc_check"
INCLUDE = Path("/usr/include")


def load_check():
    loader = importlib.machinery.SourceFileLoader("fourcc_check", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class TestHeaders:
    """`make layouts` holds the table against those of every stock kernel."""

    def test_codes_bits_and_sub_sampling_are_those_of_the_machines_headers(self, capsys):
        good, lacking = load_check().check(INCLUDE, False)
        out = capsys.readouterr().out
        assert good, out
        assert len(lacking) <= 60, out  # of headers as old as Linux 5.10

    @pytest.mark.parametrize(
        ("header", "right", "wrong", "words"),
        [
            ("drm/drm_fourcc.h", "'N', 'V', '1', '2'", "'N', 'V', '1', '3'", "code is 'NV13'"),
            ("drm/drm_fourcc.h", "[15:0] R:G:B 5:6:5", "[15:0] R:G:B 5:5:6", "R:G:B 5:5:6"),
            ("drm/drm_fourcc.h", "Cr0:Y1:Cb0:Y0", "Cb0:Y1:Cr0:Y0", "Cb0:Y1:Cr0:Y0"),
            ("drm/drm_fourcc.h", "2x2 subsampled Cr:Cb", "2x1 subsampled Cr:Cb", "2x1 sub"),
            ("linux/videodev2.h", "'p', 'R', 'C', 'C'", "'p', 'r', 'C', 'C'", "code is 'prCC'"),
        ],
    )
    def test_a_wrong_entry_is_found(self, capsys, tmp_path, header, right, wrong, words):
        check = load_check()
        for name in ("drm/drm_fourcc.h", "linux/videodev2.h"):
            (tmp_path / name).parent.mkdir()
            text = check.find(INCLUDE, Path(name)).read_text()
            (tmp_path / name).write_text(text.replace(right, wrong) if name == header else text)
        good, _ = check.check(tmp_path, False)
        assert not good
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if line.startswith("WRONG") and words in line]

    def test_codes_that_the_two_apis_read_differently_are_refused(self):
        check = load_check()
        theirs = {code for code, _ in check.macros(check.find(INCLUDE, check.DRM)).values()}
        v4l2 = {entry.v4l2: entry for entry in FORMATS.values() if entry.v4l2 in theirs}
        assert len(v4l2) > 40
        differing = [code for code, entry in v4l2.items() if from_drm(code) is not entry]
        codes = sorted(map(image.fourcc_text, differing))
        assert codes == ["'AYUV'", "'BA12'", "'RG16'", "'XYUV'"]
        for spec in ("RG16", fourcc("RG16")):
            with pytest.raises(ValueError, match="'RG16' is RGB565 to DRM and SRGGB16 to V4L2"):
                pixel_format(spec)
        with pytest.raises(ValueError, match="'AYUV' is AYUV8888 to DRM and AYUV32 to V4L2"):
            pixel_format("AYUV")
        assert from_drm(fourcc("RG16")).name == "RGB565"
        assert from_v4l2(fourcc("RG16")).name == "SRGGB16"
        assert from_drm(fourcc("BA12")).name == "BGRA4444"
        assert from_v4l2(fourcc("BA12")).name == "SGRBG12"

    def test_codes_that_v4l2_has_deprecated_are_known(self):
        check = load_check()
        theirs = check.macros(check.find(INCLUDE, check.V4L2))
        names = {
            "BGR32": "XRGB8888",
            "RGB32": "BGRX8888",
            "RGB444": "XRGB4444",
            "RGB555": "XRGB1555",
        }
        for old, name in names.items():
            assert from_v4l2(theirs[old][0]).name == name


class TestLookup:
    def test_codes_give_the_format_that_they_came_from(self):
        for entry in FORMATS.values():
            assert pixel_format(entry.name) is entry
            assert pixel_format(entry) is entry
            if entry.drm is not None:
                assert from_drm(entry.drm) is entry
            for code in (entry.v4l2, entry.v4l2_planar):
                if code is not None:
                    assert from_v4l2(code) is entry

    @pytest.mark.parametrize(
        ("spec", "name"),
        [
            ("XR24", "XRGB8888"),
            ("BG24", "BGR888"),
            ("RGB3", "BGR888"),
            ("BGR3", "RGB888"),
            ("YU12", "YUV420"),
            ("YV12", "YVU420"),
            ("I420", "YUV420"),
            ("NM12", "NV12"),
            ("GREY", "R8"),
            ("R8", "R8"),
            ("Y16", "R16"),
            ("pgAA", "SGRBG10P"),
            ("pGAA", "SGBRG10P"),
            (0x3231564E, "NV12"),
            (fourcc("Y16") | 1 << 31, "Y16_BE"),
            ("Z16 ", "Z16"),
            ("HM12", "NV12_16L16"),
        ],
    )
    def test_text_and_numbers_of_either_api_are_understood(self, spec, name):
        assert pixel_format(spec).name == name

    @pytest.mark.parametrize(
        ("spec", "error", "words"),
        [
            ("xrgb8888", ValueError, "no pixel format 'xrgb8888' is known; give a name as DRM's"),
            ("", ValueError, "no pixel format ''"),
            ("H264", ValueError, "no pixel format 'H264'"),
            ("ÿÿ", ValueError, "no pixel format"),
            (0, ValueError, "no pixel format 0x00000000"),
            (-1, ValueError, "no pixel format -0x0000001"),
            (1 << 40, ValueError, "no pixel format 0x10000000000"),
            (None, TypeError, "NoneType"),
            (1.0, TypeError, "float"),
        ],
    )
    def test_what_is_no_format_is_refused(self, spec, error, words):
        with pytest.raises(error, match=words):
            pixel_format(spec)

    def test_an_unknown_code_says_whose(self):
        with pytest.raises(ValueError, match="DRM's pixel format 'pRAA' is not known"):
            from_drm(fourcc("pRAA"))
        with pytest.raises(ValueError, match="V4L2's pixel format 'MJPG' is not known"):
            from_v4l2(fourcc("MJPG"))
        with pytest.raises(ValueError, match="V4L2's pixel format 0xb6315241 is not known"):
            from_v4l2(fourcc("AR16") | 0x80000000)
        with pytest.raises(TypeError):
            from_drm("XR24")

    @pytest.mark.parametrize("text", ["", "12345", "é"])
    def test_a_fourcc_is_four_ascii_characters(self, text):
        with pytest.raises(ValueError, match="one to four ASCII characters"):
            fourcc(text)

    def test_formats_say_their_names_and_can_be_keys(self):
        entry = FORMATS["NV12"]
        assert (str(entry), repr(entry)) == ("NV12", "<PixelFormat NV12>")
        assert {entry: 1}[pixel_format("NV12")] == 1
        assert len(FORMATS) == len(set(FORMATS.values()))


class TestSizes:
    @pytest.mark.parametrize(
        ("name", "sizes"),
        [
            ("XRGB8888", (7 * 4 * 5,)),
            ("RGB888", (7 * 3 * 5,)),
            ("RGB565", (7 * 2 * 5,)),
            ("XRGB16161616", (7 * 8 * 5,)),
            ("YUYV", (16 * 5,)),
            ("NV12", (7 * 5, 8 * 3)),
            ("NV16", (7 * 5, 8 * 5)),
            ("NV24", (7 * 5, 14 * 5)),
            ("P010", (14 * 5, 16 * 3)),
            ("YUV420", (7 * 5, 4 * 3, 4 * 3)),
            ("YUV422", (7 * 5, 4 * 5, 4 * 5)),
            ("YUV444", (7 * 5, 7 * 5, 7 * 5)),
            ("R10", (14 * 5,)),
            ("SRGGB10P", (10 * 5,)),
            ("SRGGB12P", (12 * 5,)),
            ("SRGGB14P", (14 * 5,)),
            ("NV15", (10 * 5, 10 * 3)),
            ("NV20", (10 * 5, 10 * 5)),
            ("NV30", (10 * 5, 20 * 5)),
            ("P030", (12 * 5, 16 * 3)),
            ("Y210", (32 * 5,)),
            ("VUY888", (21 * 5,)),
            ("Y12I", (21 * 5,)),
            ("XRGB16161616F", (56 * 5,)),
        ],
    )
    def test_the_least_buffer_rounds_sub_sampling_up(self, name, sizes):
        assert FORMATS[name].sizes(7, 5) == sizes
        assert FORMATS[name].size(7, 5) == sum(sizes)

    @pytest.mark.parametrize(
        ("name", "subsampling"),
        [
            ("XRGB8888", (1, 1)),
            ("YUYV", (2, 1)),
            ("AYUV8888", (1, 1)),
            ("NV12", (2, 2)),
            ("YUV422", (2, 1)),
            ("NV15", (2, 2)),
            ("NV30", (1, 1)),
            ("P030", (2, 2)),
            ("MM21", (1, 1)),
        ],
    )
    def test_sub_sampling_is_that_of_chroma(self, name, subsampling):
        assert FORMATS[name].subsampling == subsampling

    def test_strides_make_it_larger(self):
        assert FORMATS["NV12"].size(7, 5, 16) == 16 * 5 + 16 * 3
        assert FORMATS["YUV420"].sizes(7, 5, [16, 32, 64]) == (80, 96, 192)
        with pytest.raises(ValueError, match="NV12 has 2 planes, not 1 strides"):
            FORMATS["NV12"].size(7, 5, [16])

    @pytest.mark.parametrize(
        ("size", "error", "words"),
        [
            ((0, 5), ValueError, "at least one pixel, not 0x5"),
            ((7, -1), ValueError, "at least one pixel, not 7x-1"),
            ((7.0, 5), TypeError, "whole numbers of pixels, not 7.0 and 5"),
            (("7", 5), TypeError, "whole numbers of pixels, not '7' and 5"),
            ((7, 5, -16), ValueError, "a stride of at least 7 bytes, not -16"),
            ((7, 5, 6), ValueError, "a stride of at least 7 bytes, not 6"),
            ((7, 5, 16.0), TypeError, "a stride must be a whole number, not float"),
            ((7, 5, [16, "x"]), TypeError, "strides"),
        ],
    )
    def test_nonsense_has_no_size(self, size, error, words):
        with pytest.raises(error, match=words):
            FORMATS["NV12"].size(*size)

    def test_one_stride_gives_the_others(self):
        assert FORMATS["YUV422"].strides(7, 16) == (16, 8, 8)
        assert FORMATS["NV24"].strides(7, 16) == (16, 32)
        assert FORMATS["P010"].strides(8, 32) == (32, 32)
        assert FORMATS["SRGGB10P"].strides(8, 64) == (64,)
