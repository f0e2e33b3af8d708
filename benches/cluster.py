"""Simulates a large cluster on one machine, to find what its driver and scheduler can do: executors that sleep.

    cargo build --release --features cluster --config 'profile.release.package.quarry.debug-assertions=true'
    python benches/cluster.py target/release/quarry --chunks 10000 --slots 128 --seconds 2

An executor with `--slots` tasks at a time stands in for as many executors. Each chunk has 256 documents of one word, and takes `--seconds` more
than they need (`QUARRY_FAULT=slow`, which is why the program needs debug assertions); a real chunk takes about twenty seconds. Prints the
chunks per second beside those that the executors could take, and what the driver and the scheduler used: time on the CPU, the peak of memory,
and the bytes over the loopback interface, which are those between the processes, as the store is a folder.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PROJECT = Path(__file__).resolve().parent.parent
ROWS = 256  # of a chunk: the fewest, at one commit each


def free_port():
    """A port that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def used(process):
    """Seconds on the CPU, and the peak of memory in megabytes."""
    ticks = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), int(peak) / 1024


def loopback():
    """Bytes that the loopback interface has carried."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0])


def job(folder, given):
    """The documents and the job."""
    files = folder / "documents"
    files.mkdir()
    per_file = -(-given.chunks // given.files)
    for number in range(given.files):
        first, last = number * per_file * ROWS, min((number + 1) * per_file, given.chunks) * ROWS
        ids = [str(row) for row in range(first, last)]
        pq.write_table(pa.table({"id": ids, "text": ["word"] * len(ids)}), files / f"{number:04}.parquet", row_group_size=100 * ROWS)
    path = folder / "job.toml"
    path.write_text(
        f'[input]\ndocuments = "{files}"\nid = "id"\ntext = "text"\n[entities]\nschema = "{PROJECT}/schemas/conll03.toml"\n'
        f'[model]\npath = "{PROJECT}/models/default"\ndevice = "cpu"\n[store]\npath = "{folder}/store"\ncommit_documents = {ROWS}\n'
    )
    return path


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("quarry", help="the program")
    arguments.add_argument("--chunks", type=int, default=10_000)
    arguments.add_argument("--files", type=int, default=20, help="Parquet files of documents")
    arguments.add_argument("--slots", type=int, default=128, help="chunks that the executors take at a time")
    arguments.add_argument("--seconds", type=float, default=2.0, help="how long a chunk takes")
    given = arguments.parse_args()
    program = str(Path(given.quarry).resolve())
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        path = job(folder, given)
        port, flight, grpc, health = (str(free_port()) for _ in range(4))
        logs = {name: open(folder / f"{name}.log", "w") for name in ("scheduler", "executor", "driver")}

        def start(name, *arguments, **variables):
            return subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, stderr=logs[name], env=os.environ | variables)

        host = ("--bind-host", "127.0.0.1")
        scheduler = start("scheduler", "scheduler", "--", *host, "--bind-port", port)
        places = ("--external-host", "127.0.0.1", "--bind-port", flight, "--bind-grpc-port", grpc, "--bind-health-port", health)
        address = f"df://127.0.0.1:{port}"
        executor = start(
            "executor", "executor", address, "--slots", str(given.slots), "--", *host, *places, QUARRY_FAULT=f"slow:{given.seconds}"
        )
        try:
            before, began = loopback(), time.perf_counter()
            driver = start("driver", "run", str(path), "--cluster", address, "--json")
            figures = {}
            while driver.poll() is None:
                figures = {"driver": used(driver), "scheduler": used(scheduler), "executor": used(executor)}
                commits = len(list((folder / "store/documents/_delta_log").glob("*.json"))) if (folder / "store").exists() else 0
                print(f"{time.perf_counter() - began:6.0f} s {commits:6} commits, driver {figures['driver'][1]:.0f} MB", file=sys.stderr)
                time.sleep(10)
            took, bytes_sent = time.perf_counter() - began, loopback() - before
            if driver.returncode != 0:
                sys.exit((folder / "driver.log").read_text())
            documents = json.loads(driver.stdout.read())["documents"]
        finally:
            executor.kill()
            scheduler.kill()
        chunks = documents / ROWS
        print(f"{chunks:,.0f} chunks in {took:.0f} s: {chunks / took:.1f} a second, of {given.slots / given.seconds:.1f} that the executors could take")
        print(f"{bytes_sent / chunks / 1024:.1f} kB a chunk between the processes")
        for name, (seconds, megabytes) in figures.items():
            print(f"{name}: {seconds / chunks * 1000:.1f} ms on the CPU for a chunk, {megabytes:.0f} MB")


if __name__ == "__main__":
    main()
