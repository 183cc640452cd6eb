"""Which of a registry's tags may be a version's own number and timestamp id; no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nbmodel.core.reference import normal_stamp
from nbmodel.core.version import parse_time, stamp_of

_MAX_STAMPS = 3  # versions made in one second have the seconds behind it
_MAX_NUMBERS = 3


def own_stamp(created: str) -> str | None:
    """The timestamp id that a version's time of creation gives; None when it tells no time."""
    time = parse_time(created)
    return stamp_of(time) if time.timestamp() > 0 else None


def likely_stamps(tags: Collection[str], created: str) -> tuple[str, ...]:
    """Tags that may be the timestamp id of a version, likeliest first.

    Args:
        tags: All tags of the repository.
        created: When the version was made, UTC, ISO 8601.
    """
    made = own_stamp(created)
    behind = [stamp for stamp in _stamps(tags) if made is not None and stamp >= made]
    return tuple(behind[:_MAX_STAMPS])


def likely_numbers(tags: Collection[str], stamp: str | None) -> tuple[str, ...]:
    """Tags that may be the number of a version, likeliest first.

    Numbers and timestamp ids rise together, and old ones are forgotten first; so the place
    of a timestamp id, counted from the end, tells the number.

    Args:
        tags: All tags of the repository.
        stamp: The version's timestamp id, or None; one that is not among the tags says
            no more.
    """
    numbers, stamps = _numbers(tags), _stamps(tags)
    from_end = len(stamps) - stamps.index(stamp) if stamp in stamps else 1
    around = (from_end, from_end - 1, from_end + 1, 1, 2)
    found = dict.fromkeys(str(numbers[-at]) for at in around if 0 < at <= len(numbers))
    return tuple(found)[:_MAX_NUMBERS]


def _stamps(tags: Collection[str]) -> list[str]:
    return sorted(tag for tag in tags if normal_stamp(tag) == tag)


def _numbers(tags: Collection[str]) -> list[int]:
    return sorted(_read_numbers(tags))


def _read_numbers(tags: Collection[str]) -> Iterator[int]:
    for tag in tags:
        if tag.isascii() and tag.isdigit() and len(tag) < 10 and str(int(tag)) == tag:
            yield int(tag)
