from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from nbmodel.runtime.memory import give_back_memory

#: Frees 200 MB in a thread, below blocks that stay, and tells what is resident then, MB.
PROGRAM = """\
import ctypes
import json
import sys
import threading
import time

from nbmodel.runtime import memory

BLOCK, COUNT = 65536, 3200  # small enough to lie on a heap
malloc = ctypes.CDLL(None).malloc
malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
free = ctypes.CDLL(None).free
free.argtypes = [ctypes.c_void_p]


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def use():
    blocks = [malloc(BLOCK) for _ in range(COUNT)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    found.append(resident())
    for block in blocks[:-1]:
        free(block)


found = []
memory.share_one_heap()
thread = threading.Thread(target=use)
thread.start()
thread.join()
found.append(resident())
memory.give_back_memory()
deadline = time.monotonic() + 10
while resident() > found[1] - 150 and time.monotonic() < deadline:
    time.sleep(0.01)
found.append(resident())
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_what_a_thread_freed_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    used, freed, given_back = json.loads(done.stdout)
    if freed < used - 150:
        pytest.skip("the C library gives memory back by itself")
    assert given_back < used - 150


def test_a_model_is_let_go_of_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    give_back_memory()
