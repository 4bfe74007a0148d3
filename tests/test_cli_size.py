"""Sizes of dmabuf-alloc: what is understood, and how they are shown."""

import pytest

from dmabuf.cli.console.size import exact, parse_size, rough

pytestmark = pytest.mark.needs("outside")  # it asks no kernel


class TestSize:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("1", 1),
            ("4096", 4096),
            ("4096B", 4096),
            ("0x1000", 4096),
            ("64K", 64 << 10),
            ("64k", 64 << 10),
            ("64KiB", 64 << 10),
            ("64M", 64 << 20),
            ("64Mi", 64 << 20),
            ("64mib", 64 << 20),
            ("1.5G", 3 << 29),
            ("0.1K", 103),
            ("2T", 2 << 40),
            ("99999999999999999999T", 99999999999999999999 << 40),
        ],
    )
    def test_what_is_understood(self, text, size):
        assert parse_size(text) == size

    @pytest.mark.parametrize("text", ["64MB", "1.5gb", "1KB"])
    def test_what_could_be_two_things_is_refused(self, text):
        with pytest.raises(ValueError, match=r"decimal or binary; write [\d.]+[KMG] or"):
            parse_size(text)

    @pytest.mark.parametrize(
        "text",
        [
            *("", " ", "abc", "M", "-1", "+1", "1.5", "1.M", ".5M", "1e6", "1_000", "64 M", "64Q"),
            *("0x", "0x1K", "inf", "nan", "\u0663", "1\u212a", "9" * 50, "4K4K"),
        ],
    )
    def test_nonsense_is_refused(self, text):
        with pytest.raises(ValueError, match="is not a size"):
            parse_size(text)

    @pytest.mark.parametrize("text", ["0", "0M", "0.0K", "0x0"])
    def test_nothing_is_refused(self, text):
        with pytest.raises(ValueError, match="at least 1 byte"):
            parse_size(text)

    def test_sizes_are_shown_as_they_are(self):
        assert [exact(size) for size in (1, 5000, 8192, 3 << 29)] == [
            "1 byte",
            "5000 bytes",
            "8 KiB",
            "1536 MiB",
        ]

    def test_figures_are_shown_with_few_digits(self):
        assert [rough(size) for size in (999, 1000, 2_300_000, 25_276_510_208)] == [
            "999 bytes",
            "1.0 KiB",
            "2.2 MiB",
            "23.5 GiB",
        ]
