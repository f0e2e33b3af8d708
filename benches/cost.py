"""What a job costs as the work grows: documents, types, window, cores. Writes a table and a picture.

    python benches/cost.py target/release/quarry DOCUMENTS.jsonl OUT.svg

DOCUMENTS has a JSON object with `text` a line. Each line of the table is one `quarry run` into an empty store.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TYPES = [
    "people", "places", "organizations", "companies", "countries", "cities", "dates", "sums of money", "products",
    "laws", "events", "languages", "peoples", "buildings", "ships", "raw materials", "percentages", "newspapers",
]  # fmt: skip


def words(path):
    """All words of all texts, in order."""
    with open(path) as lines:
        for line in lines:
            yield from (json.loads(line)["text"] or "").split()


def corpus(path, source, count, length):
    """`count` documents of `length` words each."""
    stream = itertools.cycle(words(source))
    with open(path, "w") as out:
        for number in range(count):
            out.write(json.dumps({"id": number, "text": " ".join(itertools.islice(stream, length))}) + "\n")


def run(quarry, folder, documents, types, window, cores):
    """Seconds and megabytes of one run."""
    questions = "".join(f'[[type]]\nname = "T{at}"\nquestion = "Which {what} are named?"\n' for at, what in enumerate(TYPES[:types]))
    (folder / "schema.toml").write_text(f"nested = false\n{questions}")
    job = folder / "job.toml"
    job.write_text(
        f'[input]\ndocuments = "{documents}"\nid = "id"\ntext = "text"\n[entities]\nschema = "{folder}/schema.toml"\n'
        f'[model]\ndevice = "cpu"\n[extract]\nwindow_tokens = {window}\noverlap_tokens = {window // 4}\n'
        f'[store]\npath = "{folder}/store-{time.monotonic_ns()}"\n'
    )
    started = time.monotonic()
    mask = sorted(os.sched_getaffinity(0))[:cores]
    process = subprocess.Popen(
        [quarry, "run", str(job), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, mask),
    )
    said = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, said
    return time.monotonic() - started, usage.ru_maxrss / 1024, said["tokens_per_second"]


def panel(title, unit, rows, left):
    """One line of points in a frame of 230 x 170: seconds over the thing that grows, both from zero."""
    most = max(x for x, *_ in rows), max(seconds for _, seconds, *_ in rows)
    at = [(left + 50 + 170 * x / most[0], 160 - 120 * seconds / most[1]) for x, seconds, *_ in rows]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    text = [f'<text x="{left + 135}" y="20" class="title">{title}</text>']
    text.append(f'<path d="M{left + 50} 35V160H{left + 225}" class="axis"/><polyline points="{line}" class="line"/>')
    for (x, y), (value, seconds, *_) in zip(at, rows):
        text.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{value:,} {unit}: {seconds:.1f} s</title></circle>')
    text.append(f'<text x="{left + 46}" y="44" class="end">{most[1]:.0f} s</text><text x="{left + 46}" y="163" class="end">0</text>')
    text.append(f'<text x="{left + 225}" y="176" class="end">{most[0]:,} {unit}</text>')
    return "".join(text)


def picture(series):
    """The panels side by side, readable on a light and on a dark page."""
    style = (
        "text{font:12px sans-serif;fill:#777}.title{text-anchor:middle;font-weight:bold}.end{text-anchor:end}"
        ".axis{fill:none;stroke:#999}.line{fill:none;stroke:#1f77b4;stroke-width:2}circle{fill:#1f77b4}"
    )
    panels = "".join(panel(*one, 245 * number) for number, one in enumerate(series))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {245 * len(series)} 185"><style>{style}</style>{panels}</svg>\n'


def main():
    quarry, source, out = sys.argv[1:4]
    cores = len(os.sched_getaffinity(0))
    series = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        corpus(folder / "long.jsonl", source, 60, 300)
        corpus(folder / "many.jsonl", source, 100_000, 8)
        lines = (folder / "many.jsonl").read_text().splitlines(keepends=True)
        run(quarry, folder, folder / "long.jsonl", 1, 64, cores)

        def measure(title, unit, settings):
            rows = []
            for value, documents, types, window, used in settings:
                rows.append((value, *run(quarry, folder, documents, types, window, used)))
                print(f"{title:10} {value:>7,} {unit:10} {rows[-1][1]:8.1f} s {rows[-1][2]:7.0f} MB {rows[-1][3]:8.0f} tokens/s", flush=True)
            series.append((title, unit, rows))

        def first(count):
            path = folder / f"many-{count}.jsonl"
            path.write_text("".join(lines[:count]))
            return path

        long = folder / "long.jsonl"
        measure("documents", "texts", [(n, first(n), 1, 64, cores) for n in (1_000, 10_000, 30_000, 100_000)])
        measure("types", "questions", [(n, long, n, 256, cores) for n in (1, 2, 4, 9, 18)])
        measure("window", "wordpieces", [(n, long, 4, n, cores) for n in (64, 128, 256, 480)])
        measure("cores", "cores", [(n, long, 4, 256, n) for n in range(1, cores + 1)])
    Path(out).write_text(picture(series))


if __name__ == "__main__":
    main()
