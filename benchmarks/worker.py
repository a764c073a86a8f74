"""One peer in a process of its own: `python -m benchmarks.worker MODULE OPTIONS`, which the parent starts.

Requests come as lines of JSON, one answer goes back for each, and in between the process waits for the next line:

    {"do": "prepare", "workload": {...}, "warm": seconds}     {"losses" or "answer", "first_s", "step_s", "threads"}
    {"do": "run", "steps": k}                                 {"seconds": ...}
    {"do": "memory"}                                          {"peak_bytes": ...}

To prepare is to build the workload, to take the steps whose losses are compared, and so many seconds of others.

or else {"skip": why this peer cannot be had} or {"error": what was raised}.
"""

import contextlib
import importlib
import json
import os
import sys
import time
import traceback

from benchmarks.peers import Skip


def main(module, options):
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not come between the answers
    with contextlib.suppress(Exception):  # before NumPy, as a user's program begins; told when it is asked to prepare
        importlib.import_module(module)
    worker = Worker(module, json.loads(options))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except (Skip, ImportError) as reason:
            answer = {"skip": str(reason)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"}
        channel.write(json.dumps(answer) + "\n")


class Worker:
    """What a worker can be asked to do."""

    def __init__(self, module, options):
        self.module, self.options = module, options

    def prepare(self, workload, warm):
        from benchmarks.workloads import CHECKED, Workload, data, weights

        build = importlib.import_module(self.module).build
        w = Workload.of(workload)
        inputs = weights(w), *data(w)
        start = time.perf_counter()
        self.task = build(w, *inputs, **self.options)
        result = self.task.read(self.task.call())
        answer = {"first_s": time.perf_counter() - start}
        if w.task == "infer":
            answer["answer"] = [float(p) for p in result[0]]
        else:
            answer["losses"] = [float(result), *(float(self.task.read(self.task.call())) for _ in range(CHECKED - 1))]
        steps, seconds = 1, 0.0
        while seconds < warm:
            seconds = self.run(steps)["seconds"]
            steps, answer["step_s"] = 2 * steps, seconds / steps
        return answer | {"threads": threads()}

    def run(self, steps):
        call = self.task.call
        start = time.perf_counter()
        for _ in range(steps):
            result = call()
        self.task.wait(result)
        return {"seconds": time.perf_counter() - start}

    def memory(self):
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"peak_bytes": peak if sys.platform == "darwin" else 1024 * peak}


def threads():
    """The libraries here that compute in threads: {name: [version, kernel, threads]}."""
    from threadpoolctl import threadpool_info

    return {
        f"{pool['internal_api']} ({os.path.basename(pool['filepath'])})": [
            pool["version"],
            pool.get("architecture"),
            pool["num_threads"],
        ]
        for pool in threadpool_info()
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
