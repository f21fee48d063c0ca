"""Runs a Flowsigma job by Airflow 3: a DAG run for each window.

Needs the program `flowsigma` and the providers `standard` on the workers, and two variables of Airflow:

- `flowsigma_config`: the path of the client's flowsigma.toml
- `flowsigma_jobs`: the folder of the job files

The timetable has the rhythm, the time zone and the length of the job's windows, so that a DAG run's data interval is a
window. A cleared DAG run covers the same window again: `job run` is idempotent, and a finding is not delivered twice.
Airflow's backfill works, and so does `flowsigma job backfill`. Airflow must be the only one that schedules the job, or
else a run may find the window leased and is skipped.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

JOB = "hourly-flows"
# A minute more than the delay of the job's windows.
DELAY = timedelta(minutes=6)
# Exit code 3: another run holds the lease, and does the work.
LEASED = 3

with DAG(
    dag_id=f"flowsigma_{JOB.replace('-', '_')}",
    description="Addresses whose flow counts stand out",
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    # Missed windows are run in order.
    catchup=True,
    max_active_runs=1,
    default_args={
        "retries": 3,
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": True,
    },
    tags=["flowsigma"],
) as dag:
    due = TimeDeltaSensor(
        task_id="due",
        delta=DELAY,
        mode="reschedule",
        poke_interval=60,
    )
    # Exit code 4, a sink is owed, is a failure: the retry delivers what is owed.
    run = BashOperator(
        task_id="run",
        bash_command=(
            'exec flowsigma --config "$FLOWSIGMA_CLIENT" --log-format json'
            ' job run "$FLOWSIGMA_JOBS/$FLOWSIGMA_JOB.toml" --window "$FLOWSIGMA_WINDOW"'
        ),
        env={
            "FLOWSIGMA_CLIENT": "{{ var.value.flowsigma_config }}",
            "FLOWSIGMA_JOBS": "{{ var.value.flowsigma_jobs }}",
            "FLOWSIGMA_JOB": JOB,
            "FLOWSIGMA_WINDOW": "{{ data_interval_start.in_timezone('UTC').strftime('%Y-%m-%dT%H:%M:%SZ') }}",
        },
        append_env=True,
        skip_on_exit_code=LEASED,
        execution_timeout=timedelta(hours=1),
    )
    due >> run
