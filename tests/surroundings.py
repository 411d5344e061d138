"""What tests ask of the machine around them: time to pass, a port to listen on, a disk that is full."""

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 120  # seconds that anything may take before the test counts as failed


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.002)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def no_file_beyond(n_bytes: int) -> Iterator[None]:
    """The system refuses to write more than this into one file, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
