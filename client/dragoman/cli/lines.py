"""Lines in, answers out: bounded reading, and answers in order as soon as they are there."""

from __future__ import annotations

import contextlib
import os
import queue
import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, TypeVar

from dragoman.errors import InvalidArgument, Violation

T = TypeVar("T")
R = TypeVar("R")

MAX_LINE_BYTES = 1 << 20
"""Far beyond any model's limit: what bounds the memory that a line without an end takes."""

_CHUNK = 1 << 20


def read_lines(stream: BinaryIO) -> Iterator[str | InvalidArgument]:
    """Each line without its end; in place of one that is not UTF-8 or endless, the error that says so."""
    while raw := stream.readline(MAX_LINE_BYTES):
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            while rest := stream.readline(_CHUNK):
                if rest.endswith(b"\n"):
                    break
            yield _fault(f"at least {MAX_LINE_BYTES} bytes", f"fewer than {MAX_LINE_BYTES} bytes")
            continue
        try:
            yield raw.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            yield InvalidArgument([not_utf8(raw, error)])


def count_lines(stream: BinaryIO) -> int | None:
    """Lines from here to the end of a regular file, None for anything else; the position stays."""
    try:
        descriptor = stream.fileno()
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    position, lines, last = stream.tell(), 0, b"\n"
    while chunk := os.pread(descriptor, _CHUNK, position):
        position += len(chunk)
        lines += chunk.count(b"\n")
        last = chunk[-1:]
    return lines + (last != b"\n")


def answers(answer: Callable[[T], R], items: Iterable[T], size: int) -> Generator[R, None, None]:
    """``answer`` each item in up to ``size`` threads, yielding in input order with about ``size`` items in memory.

    The items are read by a thread of their own, so that an answer is yielded while the next line is still awaited:
    a filter must not hold back what it has.
    """
    window: queue.Queue[Future[R] | None] = queue.Queue(size)
    executor = ThreadPoolExecutor(size, thread_name_prefix="dragoman")
    over = threading.Event()

    def feed() -> None:
        try:
            # RuntimeError: the executor was shut down, nobody waits for more.
            with contextlib.suppress(RuntimeError):
                for item in items:
                    window.put(executor.submit(answer, item))
                    if over.is_set():
                        break
        except Exception as error:
            broken: Future[R] = Future()
            broken.set_exception(error)
            window.put(broken)
        finally:
            window.put(None)

    # A daemon, since a read from a terminal or a pipe cannot be interrupted.
    threading.Thread(target=feed, name="dragoman-lines", daemon=True).start()
    try:
        while (future := window.get()) is not None:
            yield future.result()
    finally:
        over.set()
        executor.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(queue.Empty):  # whoever waits for room in the window may go on, and end
            while True:
                window.get_nowait()


def not_utf8(raw: bytes, error: UnicodeDecodeError) -> Violation:
    """What is wrong with bytes that are no text."""
    return Violation("text", ascii(raw[error.start : error.end]), f"UTF-8 (byte {error.start + 1} is not)")


def _fault(value: str, limit: str) -> InvalidArgument:
    return InvalidArgument([Violation("text", value, limit)])
