"""`python -m benchmarks [names…] [--quick]`: measure the mirror beside its peers, and print a table."""

import argparse
import os
import sys
import time

from benchmarks import cli, cold, docker, hot, lists, manifests, memory, push, small
from benchmarks.rounds import HEADER, Measure
from tests.support.packages import BENCHMARK_PROGRAMS, PROGRAMS, missing
from tests.support.processes import remove_scratch

MEASURES: tuple[Measure, ...] = (
    hot.MEASURE,
    manifests.MEASURE,
    cold.SIXTEEN,
    cold.ONE,
    small.MEASURE,
    memory.MEASURE,
    push.MEASURE,
    push.ONE_LAYER,
    docker.MEASURE,
    cli.MEASURE,
    lists.MEASURE,
)


def main(arguments: list[str]) -> int:
    """Exit code 0 also where a target is missed: the table says so."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the mirror beside its peers.",
        epilog="\n".join(f"  {measure.name:<10} {measure.about}" for measure in MEASURES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help="measures; all of them unless some are named")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: an impression, not a result")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {measure.name for measure in MEASURES}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    lacking = missing({**PROGRAMS, **BENCHMARK_PROGRAMS})
    if lacking:
        print(f"missing: {' '.join(lacking)}; as root, python -m tests.support.packages --benchmarks", file=sys.stderr)
        return 1
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start would compile us, as no installed mirror does
    return _measure([each for each in MEASURES if each.name in options.names or not options.names], options.quick)


def _measure(measures: list[Measure], quick: bool) -> int:
    began = time.monotonic()
    missed = 0
    print(HEADER)
    for measure in measures:
        for row in measure.run(quick):
            print(row, flush=True)
            missed += row.missed
        remove_scratch()  # nothing runs any more
    print(f"\n{missed or 'no'} target{'s' * (missed != 1)} missed; took {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
