"""How many examples hypothesis tries: no clock ends it, which an emulated machine would miss."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def examples(count: int) -> settings:
    """Return the settings of a test that tries so many examples, however long each takes."""
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
