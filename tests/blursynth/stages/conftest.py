"""One torch thread, as a worker has: pictures this small gain nothing from more, and lose on a busy machine."""

from collections.abc import Iterator

import pytest

from blursynth.synthesis import one_thread


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
