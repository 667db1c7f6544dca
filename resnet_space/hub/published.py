"""The job's side of a remote training: write each metric to the log, and push the run.

`python -m resnet_space.train RUN_DIR --hub REPO` creates RUN_DIR from the repository's configuration and start weights,
trains it like any other, and pushes it: after a better epoch, at most once a minute, and at
the end. The last line of the log says how it ended, after everything has been pushed.
"""

import json
import os
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import HubError, HubRequest, download_files, hub_api, translated_errors
from resnet_space.common.tokens import masked
from resnet_space.config import RunConfig
from resnet_space.hub.card import write_card
from resnet_space.hub.jobs import START_FILE, jobs_space
from resnet_space.hub.push import push_run
from resnet_space.runs import CONFIG, NOTICE, RESUME, START_WEIGHTS, Metric, Run, last_metric, metric_of

METRIC_PREFIX = "metric "  # of a line in the log
PUSH_SECONDS = 60.0  # between two pushes while it trains
TRIES = 3  # of the last push: without it the training is lost


def log_line(metric: Metric) -> str:
    """The log line of a metric."""
    return METRIC_PREFIX + json.dumps(metric, ensure_ascii=False)


def logged_metric(line: str) -> Metric | None:
    """The metric in a log line, if there is a valid one."""
    if not line.startswith(METRIC_PREFIX):
        return None
    try:
        return metric_of(line.removeprefix(METRIC_PREFIX).encode(), whole=True)
    except ValueError:
        return None


def job_token() -> str | None:
    """The job's secret. A Space's image says that it is one, where a token of the environment is nobody's to use."""
    return os.environ.get("HF_TOKEN") or None


def fetch_start(path: Path, repo_id: str) -> Run:
    """Create the run's folder from the files pushed by `jobs.start_job`. Raises HubError, UserError."""
    what, token = f"The run {repo_id}", job_token()
    with translated_errors(HubRequest(what, repo_id)):
        info = hub_api(token).model_info(repo_id, files_metadata=True)
        there = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        files = [file for file in (CONFIG, START_FILE, NOTICE) if file in there]
        assert info.sha is not None  # the Hub always says which commit it answered for
        total = sum(there[file] for file in files)
        found = download_files("model", repo_id, info.sha, files, total=total, token=token)
    fetched = dict(zip(files, found, strict=True))
    if CONFIG not in fetched:
        raise UserError(f"{what} has no {CONFIG}: start the job from the app.")
    run = Run.create(path, RunConfig.from_json(json.loads(fetched[CONFIG].read_text(encoding="utf-8"))))
    if START_FILE in fetched:
        (run.path / RESUME).mkdir(exist_ok=True)
        shutil.copyfile(fetched[START_FILE], run.path / START_WEIGHTS)
    if NOTICE in fetched:
        shutil.copyfile(fetched[NOTICE], run.path / NOTICE)
    return run


class Publisher:
    """Logs the metrics of a run and pushes it in the background, so that the GPU does not wait for the network."""

    def __init__(self, run: Run, repo_id: str) -> None:
        self.run, self.repo_id = run, repo_id
        self._pushed = time.monotonic()
        self._pushing: threading.Thread | None = None

    def tell(self, metric: Metric) -> None:
        print(log_line(metric), flush=True)
        free = self._pushing is None or not self._pushing.is_alive()
        if metric.get("best") and free and time.monotonic() - self._pushed > PUSH_SECONDS:
            self._pushed = time.monotonic()
            self._pushing = threading.Thread(target=self._push, daemon=True)
            self._pushing.start()

    def finish(self) -> None:
        """Push everything, then log how the training ended."""
        if self._pushing is not None:
            self._pushing.join()
        pushed = not self.run.has_weights or any(self._push(wait=5.0 * i) for i in range(TRIES))
        end = last_metric(self.run.metrics(), "end") or {
            "event": "end",
            "status": "failed",
            "reason": "The training was interrupted.",
        }
        if pushed and self.run.has_weights and (self.run.path / START_WEIGHTS).exists():
            with suppress(HubError), translated_errors(HubRequest(START_FILE, self.repo_id)):
                hub_api(job_token()).delete_file(START_FILE, self.repo_id)  # now it is in the trained weights
        if not pushed:
            end |= {
                "status": "failed",
                "reason": "The training finished, but the weights could not be pushed to the Hub.",
            }
        print(log_line(end), flush=True)

    def _push(self, wait: float = 0.0) -> bool:
        time.sleep(wait)
        try:
            push_run(self.run, self.repo_id, token=job_token(), space=jobs_space(), in_training=True)
        except Exception as error:  # whatever the error, retry to save the training
            print(masked(str(error)), file=sys.stderr, flush=True)
            return False
        return True


def train_published(path: Path, repo_id: str, *, minutes: int | None = None) -> int:
    """Train the run prepared in the repository. Returns the process's exit status: 1 for failed."""
    from resnet_space.training.host import host  # imports torch, which the page does not wait for

    run = fetch_start(path, repo_id)
    publisher = Publisher(run, repo_id)
    status = host(run, write_card, minutes=minutes, report=publisher.tell)
    publisher.finish()
    return status
