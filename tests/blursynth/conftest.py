"""What tests of digests and of sources share."""

import hashlib
from pathlib import Path

import pytest


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """Names of the files that were read to be hashed."""
    seen = []
    original = hashlib.file_digest

    def watched(content, kind):
        seen.append(Path(content.name).name)
        return original(content, kind)

    monkeypatch.setattr(hashlib, "file_digest", watched)
    return seen
