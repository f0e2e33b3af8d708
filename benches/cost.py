"""Cost of a job over the number of documents, types, window tokens and cores. Writes a table and a chart.

    python benches/cost.py target/release/quarry DOCUMENTS.jsonl OUT.svg [--rounds 3] [--early MODEL --late MODEL]

DOCUMENTS has one JSON object with `text` per line. Every line of the table is the median of several runs into empty stores, one in each
round, so that a period in which the machine is busy affects all lines. The base setting, four questions and windows of 256 on all cores, is
measured once and appears in three of the four parts.

With --early and --late, two model directories, the chart has one more part: what up to 1,000 types cost with each interaction, in seconds per
document without the start of the program. Early interaction then gets fewer documents the more types it is asked.
"""

import argparse
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

TYPES = [
    "people", "places", "organizations", "companies", "countries", "cities", "dates", "sums of money", "products",
    "laws", "events", "languages", "peoples", "buildings", "ships", "raw materials", "percentages", "newspapers",
]  # fmt: skip

KINDS = ["large", "small", "old", "new", "famous", "foreign", "European", "American", "Asian", "African", "medical", "military", "legal",
         "political", "scientific", "religious", "fictional", "public", "private", "local", "national", "rural", "urban", "coastal",
         "historical", "modern", "royal", "industrial", "electronic", "financial", "musical", "literary", "sporting", "maritime", "edible",
         "chemical", "wooden", "digital", "annual", "northern", "southern", "western", "eastern", "mythical", "rare", "cheap", "expensive",
         "dangerous", "secret", "temporary", "abandoned", "regional", "civil", "academic", "agricultural", "commercial"]  # fmt: skip

LABELS = {
    "documents": "documents: 8 words each, one question",
    "types": "questions: 60 documents of 300 words",
    "window": "window: the same documents, four questions",
    "cores": "cores: the same documents, four questions",
}

STYLE = (
    "text{font:12px sans-serif;fill:#777}.title{text-anchor:middle;font-weight:bold}.end{text-anchor:end}"
    ".axis{fill:none;stroke:#999}.line{fill:none;stroke:#1f77b4;stroke-width:2}circle{fill:#1f77b4}"
    ".line1{stroke:#d2691e}.dot1{fill:#d2691e}.line2{stroke:#5a9e4b}.dot2{fill:#5a9e4b}"
)


class Setting(NamedTuple):
    """Settings of a run."""

    documents: str
    types: int
    window: int
    cores: int
    model: str = ""


class Cost(NamedTuple):
    """Cost of a run."""

    seconds: float
    megabytes: float
    tokens_per_second: float


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


def run(quarry, folder, setting):
    """The cost of one run."""
    asked = itertools.islice(itertools.chain(TYPES, (f"{kind} {what}" for what in TYPES for kind in KINDS)), setting.types)
    questions = (f'[[type]]\nname = "T{at}"\nquestion = "Which {what} are named?"\n' for at, what in enumerate(asked))
    (folder / "schema.toml").write_text("nested = false\n" + "".join(questions))
    job, store = folder / "job.toml", folder / "store"
    shutil.rmtree(store, ignore_errors=True)
    job.write_text(
        f'[input]\ndocuments = "{folder / setting.documents}"\nid = "id"\ntext = "text"\n[entities]\nschema = "{folder}/schema.toml"\n'
        f'[model]\ndevice = "cpu"\n' + (f'path = "{setting.model}"\n' if setting.model else "") + f'[extract]\nwindow_tokens = {setting.window}\n'
        f'[store]\npath = "{store}"\n'
    )
    started = time.monotonic()
    mask = sorted(os.sched_getaffinity(0))[: setting.cores]
    process = subprocess.Popen(
        [quarry, "run", str(job), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, mask),
    )
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"a run with {setting} failed:\n{output.decode()}")
    return Cost(time.monotonic() - started, usage.ru_maxrss / 1024, json.loads(output)["tokens_per_second"])


def median(costs):
    """The median of each figure separately."""
    return Cost(*map(statistics.median, zip(*costs)))


def panel(title, unit, rows, left):
    """One curve in a frame of 230 x 170: seconds over the varied setting, both axes from zero."""
    most = max(x for x, _ in rows), max(cost.seconds for _, cost in rows)
    at = [(left + 50 + 170 * x / most[0], 160 - 120 * cost.seconds / most[1]) for x, cost in rows]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    text = [f'<text x="{left + 135}" y="20" class="title">{title}</text>']
    text.append(f'<path d="M{left + 50} 35V160H{left + 225}" class="axis"/><polyline points="{line}" class="line"/>')
    for (x, y), (value, cost) in zip(at, rows):
        text.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{value:,} {unit}: {cost.seconds:.1f} s</title></circle>')
    text.append(f'<text x="{left + 46}" y="44" class="end">{most[1]:.0f} s</text><text x="{left + 46}" y="163" class="end">0</text>')
    text.append(f'<text x="{left + 225}" y="176" class="end">{most[0]:,} {unit}</text>')
    return "".join(text)


def kinds_panel(kinds, left):
    """Both interactions in a frame of 230 x 170: seconds per document over types, both axes logarithmic."""
    rows = [row for _, rows in kinds for row in rows]
    low, high = (math.floor(math.log10(min(y for _, y in rows))), math.ceil(math.log10(max(y for _, y in rows))))
    most = math.log10(max(x for x, _ in rows))
    text = [f'<text x="{left + 135}" y="20" class="title">types, seconds per document</text>']
    text.append(f'<path d="M{left + 50} 35V160H{left + 225}" class="axis"/>')
    for power in range(low, high + 1):
        text.append(f'<text x="{left + 46}" y="{163 - 120 * (power - low) / (high - low):.0f}" class="end">{10.0**power:g} s</text>')
    for number, (name, rows) in enumerate(kinds):
        at = [(left + 50 + 170 * math.log10(x) / most, 160 - 120 * (math.log10(y) - low) / (high - low)) for x, y in rows]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        text.append(f'<polyline points="{line}" class="line line{number}"/>')
        for (x, y), (types, seconds) in zip(at, rows):
            text.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="dot{number}"><title>{name}, {types:,} types: {seconds:.3f} s</title></circle>')
        text.append(f'<text x="{at[-2][0] - 6:.0f}" y="{at[-2][1] - 6:.0f}" class="end">{name}</text>')
    text.append(f'<text x="{left + 50}" y="176">1</text><text x="{left + 225}" y="176" class="end">{max(x for x, _ in rows):,} types</text>')
    return "".join(text)


def picture(series, kinds):
    """The panels side by side, readable on light and dark backgrounds."""
    panels = "".join(panel(*one, 245 * number) for number, one in enumerate(series))
    if kinds:
        panels += kinds_panel(kinds, 245 * len(series))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {245 * (len(series) + bool(kinds))} 185"><style>{STYLE}</style>{panels}</svg>\n'


class Kind(NamedTuple):
    """What a model costs with some number of types."""

    name: str
    types: int
    documents: int
    setting: Setting


def asked_kinds(given, base):
    """The settings of early and late interaction."""
    if not given.early or not given.late:
        return []
    fewer = {100: 12, 1000: 2}
    kinds = []
    for name, model in (("early", given.early), ("late", given.late)):
        for types in (1, 4, 18, 100, 1000):
            documents = fewer.get(types, 60) if name == "early" else 60
            setting = Setting(f"long-{documents}.jsonl", types, given.kinds_window, base.cores, str(Path(model).resolve()))
            kinds.append(Kind(name, types, documents, setting))
    return kinds


def kinds_table(kinds, costs, starts):
    """Prints what each number of types costs; returns the curves."""
    curves = {}
    for kind in kinds:
        whole, start = median(costs[kind.setting]).seconds, median(starts[kind.setting]).seconds
        curves.setdefault(kind.name, []).append((kind.types, (whole - start) / kind.documents))
    print("\n| types | early: ms a document | times that of one | late: ms a document | times that of one | early / late |\n|---:|---:|---:|---:|---:|---:|")
    early, late = curves["early"], curves["late"]
    for (types, slow), (_, fast) in zip(early, late):
        print(f"| {types:,} | {slow * 1e3:.1f} | {slow / early[0][1]:.2f} | {fast * 1e3:.1f} | {fast / late[0][1]:.2f} | {slow / fast:.1f} |")
    return list(curves.items())


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("quarry", help="the program")
    arguments.add_argument("documents", type=Path)
    arguments.add_argument("out", type=Path, help="the chart, an SVG file")
    arguments.add_argument("--rounds", type=int, default=3, help="number of measurements of each setting")
    arguments.add_argument("--most", type=int, default=100_000, help="documents of the largest run")
    arguments.add_argument("--early", help="a model of early interaction")
    arguments.add_argument("--late", help="a model of late interaction")
    arguments.add_argument("--kinds-window", type=int, default=128, help="window tokens of the two")
    arguments.add_argument("--only-kinds", action="store_true", help="measures the two models only")
    given = arguments.parse_args()
    cores = len(os.sched_getaffinity(0))
    base = Setting("long.jsonl", 4, 256, cores)
    counts = [given.most * share // 100 for share in (1, 10, 30, 100)]
    series = [
        ("documents", "texts", [(count, Setting(f"many-{count}.jsonl", 1, 64, cores)) for count in counts]),
        ("types", "questions", [(types, base._replace(types=types)) for types in (1, 2, 4, 9, 18)]),
        ("window", "wordpieces", [(window, base._replace(window=window)) for window in (64, 128, 256, 480)]),
        ("cores", "cores", [(used, base._replace(cores=used)) for used in range(1, cores + 1)]),
    ]
    if given.only_kinds:
        series = []
    kinds = asked_kinds(given, base)
    costs = {setting: [] for _, _, settings in series for _, setting in settings} | {kind.setting: [] for kind in kinds}
    starts = {kind.setting: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        corpus(folder / base.documents, given.documents, 60, 300)
        for count in counts:
            corpus(folder / f"many-{count}.jsonl", given.documents, count, 8)
        for documents in {kind.documents for kind in kinds}:
            corpus(folder / f"long-{documents}.jsonl", given.documents, documents, 300)
        # The first run with a setting tunes the batch size, which must not count as cost.
        corpus(folder / "first.jsonl", given.documents, 4, 8)
        for setting in {setting._replace(documents="first.jsonl"): None for setting in costs}:
            run(given.quarry, folder, setting)
        for number in range(1, given.rounds + 1):
            for setting, found in costs.items():
                found.append(run(given.quarry, folder, setting))
                if setting in starts:
                    starts[setting].append(run(given.quarry, folder, setting._replace(documents="first.jsonl")))
                print(f"round {number}: {setting}: {found[-1].seconds:.1f} s", file=sys.stderr, flush=True)
    measured = [(title, unit, [(value, median(costs[setting])) for value, setting in settings]) for title, unit, settings in series]
    print("| | | seconds | memory | tokens/s |\n|---|---:|---:|---:|---:|")
    for title, _, rows in measured:
        for number, (value, cost) in enumerate(rows):
            first = "" if number else LABELS[title]
            print(f"| {first} | {value:,} | {cost.seconds:.1f} | {cost.megabytes:.0f} MB | {cost.tokens_per_second:,.0f} |")
    given.out.write_text(picture(measured, kinds_table(kinds, costs, starts) if kinds else []))


if __name__ == "__main__":
    main()
