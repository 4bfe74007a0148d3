"""The enumerations of V4L2: what newer drivers say is kept, and neither refused nor lost."""

import pickle

import pytest

from dmabuf.devices import v4l2


class TestEnumerations:
    ENUMERATIONS = (
        v4l2.Colorspace,
        v4l2.ControlType,
        v4l2.Field,
        v4l2.Quantization,
        v4l2.TransferFunction,
        v4l2.YCbCrEncoding,
    )

    @pytest.mark.parametrize("kind", ENUMERATIONS)
    def test_unknown_values_are_members_of_their_number(self, kind):
        member = kind(0x1234)
        assert isinstance(member, kind)
        assert (member, member.value, member.name) == (0x1234, 0x1234, "UNKNOWN_4660")
        assert member == kind(0x1234) != kind(0x1235)
        assert hash(member) == hash(kind(0x1234))
        assert member not in list(kind)
        assert pickle.loads(pickle.dumps(member)) == member
        assert "UNKNOWN_4660" in repr(member)

    @pytest.mark.parametrize("kind", ENUMERATIONS)
    def test_what_is_no_number_is_refused(self, kind):
        for wrong in (-1, "NONE", None, 1.5):
            with pytest.raises(ValueError, match="is not a valid"):
                kind(wrong)

    def test_unknown_flags_are_kept(self):
        flags = v4l2.ControlFlag(0x40000004)
        assert v4l2.ControlFlag.READ_ONLY in flags
        assert flags == 0x40000004
