"""How long `edgefleet --help` takes, as a whole process: the median of many, interleaved with a bare interpreter."""
import json
import statistics
import subprocess
import sys
import time

ROUNDS = 15
COMMAND = "make bench (python tests/benchmarks/record.py help)"


def took_s(*argv: str) -> float:
    began_s = time.perf_counter()
    subprocess.run([sys.executable, *argv], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began_s


def main() -> None:
    took_s("-m", "harness.cli", "--help")       # compiles, fills the page cache
    pairs = [(took_s("-c", "pass"), took_s("-m", "harness.cli", "--help")) for _ in range(ROUNDS)]
    bare_s, help_s = (statistics.median(times) for times in zip(*pairs))
    print(json.dumps({"figure": "edgefleet --help, whole process", "value": round(help_s, 3), "target": "<= 0.3",
                      "unit": "s", "command": COMMAND,
                      "note": f"median of {ROUNDS}; a bare interpreter takes {bare_s:.3f} s"}))


if __name__ == "__main__":
    main()
