import operator
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from jaxvision.data import workers
from jaxvision.errors import UserError


def test_results_come_in_order_and_no_further_ahead_than_asked():
    begun = []

    def task(item):
        begun.append(item)
        time.sleep(0.01 * (item % 3))
        return -item

    results = workers.map_ordered(task, iter(range(100)), threads=4, ahead=6)
    assert [next(results) for _ in range(10)] == [-i for i in range(10)]
    assert max(begun) <= 9 + 7
    results.close()


def test_without_threads_nothing_is_done_ahead():
    begun = []
    results = workers.map_ordered(begun.append, iter(range(9)), threads=0)
    next(results)
    assert begun == [0]


@pytest.mark.parametrize("options", [dict(threads=-1), dict(threads=1.5), dict(threads=1, processes=-2)])
def test_counts_are_checked_at_once(options):
    with pytest.raises(UserError, match="whole number of at least 0"):
        workers.map_ordered(abs, iter([]), **options)


def test_an_error_of_a_process_comes_with_its_traceback():
    with pytest.raises(RuntimeError, match="(?s)worker process.*ZeroDivisionError"):
        list(workers.map_ordered(operator.methodcaller("__floordiv__", 0), iter([1]), threads=1, processes=1))


SCRIPT = """
import multiprocessing, signal, sys
from jaxvision.data import workers

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
    results = workers.map_ordered(abs, iter(range(10**9)), threads=1, processes=2)
    next(results)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    if sys.argv[1] == "return":
        sys.exit()
    if sys.argv[1] == "raise":
        raise ValueError
    while True:
        next(results)
"""


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "SIGINT", "return", "raise"])
def test_no_worker_outlives_the_main_process(end, tmp_path):
    (tmp_path / "main.py").write_text(SCRIPT)
    main = subprocess.Popen(
        [sys.executable, tmp_path / "main.py", end], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    children = [psutil.Process(int(pid)) for pid in main.stdout.readline().split()]
    assert len(children) == 2
    if end.startswith("SIG"):
        os.kill(main.pid, getattr(signal, end))
    main.wait(timeout=20)
    main.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_a_worker_that_dies_is_an_error():
    results = workers.map_ordered(os._exit, iter([3]), threads=1, processes=1)
    with pytest.raises(RuntimeError, match="died"):
        next(results)
