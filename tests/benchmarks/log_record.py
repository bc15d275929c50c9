"""What a JSON request record costs beside orjson.dumps and one os.write of the same bytes, the sides taking turns.

The floor is an f-string of the record's values as they are, with no time of day, escape or check, and one os.write.

python tests/benchmarks/log_record.py
python tests/benchmarks/log_record.py --instructions
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from flask_signal_observability.config import Config
from flask_signal_observability.record import RequestRecord
from flask_signal_observability.sinks.logs import LogsSink

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

GOAL = 1.5
WARM_UP = 2000
SIDES = ("sink", "by hand", "floor")


def request() -> RequestRecord:
    """Return a request as it is at its end: all that a plain GET says."""
    record = RequestRecord(None, "shop", {}, "GET", 1_795_342_140_123_456_789, 0, lambda record: None)
    record.request_id, record.trace_id, record.span_id = "c6afe1ce" * 4, "7e981054" * 4, "f1f437a1" * 2
    record.path, record.route, record.endpoint = "/orders/7", "/orders/<int:number>", "order"
    record.client_address = record.peer_address = "127.0.0.1"
    record.status, record.response_size = 200, 41
    record.end(4_406_403)
    return record


def writers(directory: Path) -> Iterator[tuple[str, Callable[[int], None]]]:
    """Yield each side's name and what writes so many records, every one at a time of day of its own."""
    sink = LogsSink(Config(service_name="shop", log_stream=str(directory / "sink.json")))
    record, finish = request(), sink.finisher()

    def by_sink(records: int) -> None:
        for _ in range(records):
            record.ended_unix_ns += 1_000_000
            finish(record)

    by_sink(1)
    line = orjson.loads((directory / "sink.json").read_bytes())
    descriptor = os.open(directory / "plain.json", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def by_hand(records: int) -> None:
        dumps, write, option = orjson.dumps, os.write, orjson.OPT_APPEND_NEWLINE
        for _ in range(records):
            record.ended_unix_ns += 1_000_000
            write(descriptor, dumps(line, option=option))

    def by_f_string(records: int) -> None:
        write, at = os.write, line["timestamp"]
        for _ in range(records):
            record.ended_unix_ns += 1_000_000
            write(
                descriptor,
                f'{{"timestamp":"{at}","level":"info","event":"request_finished","service":"shop",'
                f'"request_id":"{record.request_id}","trace_id":"{record.trace_id}","span_id":"{record.span_id}",'
                f'"http.request.method":"{record.method}","url.path":"{record.path}","http.route":"{record.route}",'
                f'"http.response.status_code":{record.status},"client.address":"{record.client_address}",'
                f'"network.peer.address":"{record.peer_address}","flask.endpoint":"{record.endpoint}",'
                f'"http.response.body.size":{record.response_size},"duration_seconds":{record.duration_ns}e-9}}\n'.encode(),
            )

    yield "sink", by_sink
    yield "by hand", by_hand
    yield "floor", by_f_string


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="how often the sides take turns (200)")
    parser.add_argument("--records", type=int, default=500, help="records a turn (500)")
    parser.add_argument("--instructions", action="store_true", help="callgrind's counts in place of CPU time")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        sides = dict(writers(Path(directory)))
        if options.only:
            sides[options.only](options.records)
            return 0
        costs = instructions() if options.instructions else times(sides, options.rounds, options.records)
    unit = "instructions" if options.instructions else "us CPU time"
    for name, cost in costs.items():
        print(f"{name:<8} {cost:10,.2f} {unit} a record")
    for name in ("sink", "floor"):
        print(f"{name:<8} {costs[name] / costs['by hand']:10.2f} times by hand (the goal of the sink is {GOAL})")
    return 0


def times(sides: dict[str, Callable[[int], None]], rounds: int, records: int) -> dict[str, float]:
    """Return the median CPU time of a record in us: what slows the machine down for a while slows both."""
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for write in sides.values():
        write(WARM_UP)
    for _ in range(rounds):
        for name, write in sides.items():
            started_ns = time.process_time_ns()
            write(records)
            samples[name].append((time.process_time_ns() - started_ns) / records / 1000)
    return {name: statistics.median(values) for name, values in samples.items()}


def instructions() -> dict[str, float]:
    """Count each side as the difference of two processes, one of which writes so many records more."""
    few, many = 1000, 3000
    return {name: (counted(name, many) - counted(name, few)) / (many - few) for name in SIDES}


def counted(side: str, records: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__]
    done = subprocess.run(
        [*command, "--only", side, "--records", str(records)], capture_output=True, text=True, check=True
    )
    (collected,) = re.findall(r"Collected : (\d+)", done.stderr)
    return int(collected)


if __name__ == "__main__":
    sys.exit(main())
