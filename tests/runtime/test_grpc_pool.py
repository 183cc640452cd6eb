"""The threads behind gRPC calls."""

from __future__ import annotations

import threading

import pytest

from nbmodel.runtime.grpc_pool import CallPool, Task


def test_as_many_threads_as_tasks_are_started_and_no_more_than_allowed() -> None:
    pool = CallPool(2)
    go_on, names = threading.Event(), set()
    both = threading.Barrier(3)

    def wait() -> None:
        names.add(threading.current_thread().name)
        both.wait(10)
        go_on.wait(10)

    ended = threading.Semaphore(0)
    for _ in range(2):
        pool.submit(wait).add_done_callback(lambda _: ended.release())
    both.wait(10)
    third = threading.Event()
    pool.submit(third.set)
    assert not third.wait(0.05)  # it waits for a thread
    go_on.set()
    assert third.wait(10)
    for _ in range(2):
        assert ended.acquire(timeout=10)
    assert len(names) == 2
    pool.shutdown()


def test_an_idle_thread_is_used_again() -> None:
    pool = CallPool(8)
    names = []
    for _ in range(20):
        done = threading.Event()
        pool.submit(lambda: names.append(threading.current_thread().name)).add_done_callback(
            lambda _, done=done: done.set()
        )
        assert done.wait(10)
    assert len(set(names)) <= 2  # a thread tells of its end just before it is idle
    pool.shutdown()


def test_a_callback_is_called_whenever_it_is_added() -> None:
    task, told = Task(lambda: None, ()), []
    task.add_done_callback(lambda _: told.append("before"))
    task.run()
    task.add_done_callback(lambda _: told.append("after"))
    assert told == ["before", "after"]


def test_a_task_that_fails_is_logged_and_done(caplog: pytest.LogCaptureFixture) -> None:
    task, told = Task(lambda: 1 / 0, ()), []
    task.add_done_callback(told.append)
    task.run()
    assert told == [task]
    assert "ZeroDivisionError" in caplog.text
