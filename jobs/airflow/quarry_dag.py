"""Extracts the entities of one day's documents every night, for Airflow 3.

The day is the start of the run's data interval (`{{ ds }}`) and is passed to the job as `--set date=`. Quarry's exit codes decide what
happens next: 0 done; 3 done with rejects, which is a warning and not retried; 2 failed, retried; 130 and 143 stopped by a signal, started
again; any other code fails at once. A task that is killed or retried loses nothing: the run resumes after its last commit.

Settings are environment variables of the worker: QUARRY (the program), QUARRY_HOME (the folder to which the job's relative paths are
relative), QUARRY_JOB, QUARRY_CORPUS, QUARRY_STORE.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow.sdk import DAG, Asset, Metadata, task
from airflow.timetables.interval import CronDataIntervalTimetable

try:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
except ImportError:  # the first releases of Airflow 3 have them in another module
    from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException

QUARRY = os.environ.get("QUARRY", "quarry")
HOME = os.environ.get("QUARRY_HOME", "/opt/quarry")
JOB = os.environ.get("QUARRY_JOB", "jobs/nightly.toml")
CORPUS = os.environ.get("QUARRY_CORPUS", "/srv/corpus")
STORE = os.environ.get("QUARRY_STORE", "/srv/entities")

DONE, FAILED, DONE_WITH_REJECTS = 0, 2, 3
STOPPED = 130, 143

# Other DAGs can wait for this asset: `schedule=[Asset("quarry_entities", ...)]`.
ENTITIES = Asset("quarry_entities", uri=STORE if "://" in STORE else Path(STORE).absolute().as_uri())

log = logging.getLogger(__name__)


def quarry(*arguments: str) -> tuple[int, str]:
    """Runs the program and forwards its log lines; returns its exit code and its standard output."""
    with subprocess.Popen(
        [QUARRY, *arguments, "--log-format", "plain"],
        cwd=HOME,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # Stopping the task stops the run, which commits its finished documents.
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            for line in process.stderr:
                log.info(line.rstrip())
            printed = process.stdout.read()
            return process.wait(), printed
        finally:
            signal.signal(signal.SIGTERM, before)


with DAG(
    dag_id="quarry_nightly",
    description="Entities of one day's documents",
    schedule=CronDataIntervalTimetable("15 2 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    # The store takes one run at a time.
    max_active_runs=1,
    tags=["quarry"],
):

    @task.sensor(poke_interval=300, timeout=6 * 3600, mode="reschedule")
    def documents_are_there(ds: str) -> bool:
        """Waits for the day's documents. On an object store it does not check: the run reports missing documents."""
        return "://" in CORPUS or any((Path(HOME) / CORPUS / f"dt={ds}").glob("*.parquet"))

    @task(
        outlets=[ENTITIES],
        retries=3,
        retry_delay=timedelta(minutes=10),
        retry_exponential_backoff=True,
        execution_timeout=timedelta(hours=20),
    )
    def extract(ds: str):
        """Runs the job for the day and returns its summary."""
        settings = [f"corpus={CORPUS}", f"store={STORE}", f"date={ds}"]
        code, printed = quarry("run", JOB, "--json", *(word for setting in settings for word in ("--set", setting)))
        summary = json.loads(printed) if printed else {"exit_code": code, "error": None}
        error = summary.get("error") or {}
        said = f"{error.get('message', 'no message')}; {error.get('hint') or 'see the log'}"
        if code == FAILED:
            raise AirflowException(f"quarry failed, and a retry may help: {said}")
        if code in STOPPED:
            raise AirflowException(f"quarry was stopped; the next attempt resumes after its last commit: {said}")
        if code not in (DONE, DONE_WITH_REJECTS):
            raise AirflowFailException(f"quarry ended with exit code {code}: {said}")
        if code == DONE_WITH_REJECTS:
            log.warning("done, with rejects to look at: %s", summary["rejects_by_reason"])
        keys = ("run_id", "exit_code", "documents", "mentions", "rejects", "seconds")
        yield Metadata(ENTITIES, {"date": ds, **{key: summary[key] for key in keys}})
        return summary

    @task
    def rejects_are_few(summary: dict) -> None:
        """Makes a night with rejects to look at visible as a skipped task."""
        if summary["exit_code"] == DONE_WITH_REJECTS:
            raise AirflowSkipException(f"{summary['rejects']} rejects, {summary['unreadable_files']} unreadable files")

    rejects_are_few(documents_are_there() >> extract())
