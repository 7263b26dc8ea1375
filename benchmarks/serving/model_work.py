"""The model work alone, in a process of its own: `python -m benchmarks.serving.model_work BUNDLE_ROOT`.

Reads one line per order from its standard input, works, and answers with one line.
"""

import json
import sys
import time
from itertools import cycle, islice
from pathlib import Path

from benchmarks.serving.model import Model


def main() -> None:
    """Works as ordered until there are no more orders."""
    model = Model.load(Path(sys.argv[1]))
    for line in sys.stdin:
        order = json.loads(line)
        latencies = work(model, order["user_ids"], users=order["users"], seconds=order["seconds"])
        print(json.dumps(latencies), flush=True)  # noqa: T201  # the answer to the order


def work(model: Model, user_ids: list[int], *, users: int, seconds: float) -> list[float]:
    """Seconds of each call for so many users, for some time."""
    latencies = []
    next_user = cycle(user_ids)
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        model.top(list(islice(next_user, users)), limit=20)
        latencies.append(time.perf_counter() - began)
    return latencies


if __name__ == "__main__":
    main()
