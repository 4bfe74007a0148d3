"""Enumerations of the kernel's, which newer drivers may have more values of."""

from __future__ import annotations

from enum import IntEnum


class Enumeration(IntEnum):
    """An enumeration whose unknown values are kept, as members named UNKNOWN_ and the number."""

    @classmethod
    def _missing_(cls, value: object) -> Enumeration | None:
        if not isinstance(value, int) or value < 0:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{int(value)}"
        member._value_ = value
        return member

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        # By its number: Python 3.11.0 to 3.11.3 would look for a member of the name.
        return type(self), (self._value_,)
