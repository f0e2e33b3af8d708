"""Learning curves: F1 on test over the share of the training documents, a curve for each training job. Writes a table and a chart.

    python benches/curve.py target/release/quarry OUT.svg jobs/curve-mrc.toml jobs/curve-tagger.toml

A job has `${share}` and `${epochs}`: a small share gets more epochs, so that it learns for long enough. A model that is there already is
not trained again, so the script can be stopped at any time: `quarry train` resumes what it began.
"""

import argparse
import json
import math
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

from cost import STYLE

# The share of the documents, and the epochs.
SHARES = [("0.01", 40), ("0.05", 15), ("0.1", 10), ("0.5", 5), ("1", 2)]


class Point(NamedTuple):
    """What a model has learnt."""

    kind: str
    share: float
    documents: int
    steps: int
    f1: float


def train(quarry, job, share, epochs):
    """Trains a model, unless it is there, and reads its scores."""
    settings = {"share": share, "epochs": str(epochs)}
    text = job.read_text()
    for key, value in settings.items():
        text = text.replace(f"${{{key}}}", value)
    made = Path(tomllib.loads(text)["output"]["path"]) / "quarry.json"
    if not made.exists():
        options = [option for pair in settings.items() for option in ("--set", "=".join(pair))]
        subprocess.run([quarry, "train", job, *options], check=True)
    model = json.loads(made.read_text())
    recipe = model["recipe"]
    kind = recipe["settings"]["kind"]
    if kind == "mrc":
        kind += f", {recipe['settings']['interaction']}"
    return Point(kind, float(share), recipe["train"]["documents"], recipe["steps"], model["scores"]["test"]["f1"])


def picture(curves):
    """The curves in a frame of 420 x 240: F1 from 0 to 1 over shares, whose axis is logarithmic."""
    low = math.log10(float(SHARES[0][0]))
    text = ['<text x="230" y="20" class="title">F1 on test over the share of the documents</text><path d="M50 30V250H410" class="axis"/>']
    for tenths in range(0, 11, 2):
        text.append(f'<text x="44" y="{254 - 21 * tenths}" class="end">{tenths / 10:.1f}</text>')
    for share, _ in SHARES:
        x = 50 + 340 * (1 - math.log10(float(share)) / low)
        text.append(f'<text x="{x:.0f}" y="268" style="text-anchor:middle">{float(share):.0%}</text>')
    for number, points in enumerate(curves):
        at = [(50 + 340 * (1 - math.log10(point.share) / low), 250 - 210 * point.f1) for point in points]
        text.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}" class="line line{number}"/>')
        for (x, y), point in zip(at, points):
            label = f"{point.kind}, {point.documents} documents: {point.f1:.4f}"
            text.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="dot{number}"><title>{label}</title></circle>')
        key = 170 + 18 * number
        text.append(f'<circle cx="300" cy="{key}" r="4" class="dot{number}"/><text x="310" y="{key + 4}">{points[0].kind}</text>')
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 430 280"><style>{STYLE}</style>{"".join(text)}</svg>\n'


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("quarry", help="the program")
    arguments.add_argument("out", type=Path, help="the chart, an SVG file")
    arguments.add_argument("jobs", type=Path, nargs="+", help="training jobs")
    given = arguments.parse_args()
    curves = [[train(given.quarry, job, share, epochs) for share, epochs in SHARES] for job in given.jobs]
    print("| share | documents | " + " | ".join(f"{points[0].kind}: steps | F1 on test" for points in curves) + " |")
    print("|---:|---:|" + "---:|---:|" * len(curves))
    for row in zip(*curves):
        scores = " | ".join(f"{point.steps} | {point.f1:.4f}" for point in row)
        print(f"| {row[0].share:.0%} | {row[0].documents} | {scores} |")
    given.out.write_text(picture(curves))


if __name__ == "__main__":
    main()
