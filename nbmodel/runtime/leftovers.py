"""What a runtime that was killed left half written in its home."""

from __future__ import annotations

import logging
from pathlib import Path

from nbmodel.storage.atomic import remove_unfinished

logger = logging.getLogger(__name__)


def remove_leftovers(home: Path) -> int:
    """Remove files that were being written when the last runtime in a home ended.

    Only before anything else is done there. Uploads stay, since they may be gone on with;
    folders of packages are the package folder's own business. A disk that refuses keeps no
    model from running.

    Args:
        home: The folder; it need not be there.

    Returns:
        How many files there were.
    """
    tags, referrers = home / "tags", home / "referrers"
    try:
        below = [
            path
            for folder in (tags, referrers)
            if folder.is_dir()
            for path in folder.iterdir()
            if path.is_dir()
        ]
        return sum(remove_unfinished(one) for one in (home, home / "blobs", tags, *below))
    except OSError as exc:
        logger.warning("what was left half written in %s cannot be removed: %s", home, exc)
        return 0
