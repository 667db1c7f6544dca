"""The app's side of a training elsewhere: what a job says goes into the run's folder as if it trained here."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from huggingface_hub import JobStage

from resnet_space.hub.client import HubError, Wanted, download_files, hub_api, translated_errors
from resnet_space.hub.jobs import Job
from resnet_space.hub.published import heard
from resnet_space.hub.pull import MAX_BYTES
from resnet_space.runs import CARD, EVALUATION, FIGURES, LOG, WEIGHTS, Metric, Run, RunError, replaced_atomically
from resnet_space.tokens import masked

STOP_LOOK_SECONDS = 1.0
BROUGHT = (WEIGHTS, EVALUATION, CARD)


class Follower(threading.Thread):
    """Follows a job until it ends; meanwhile the run counts as training. The token is only in this object.

    Args:
        run: that the job trains.
        job: as `start_job` or `job_of` gave it.
        token: of the job's owner; None: the saved login.
    """

    def __init__(self, run: Run, job: Job, token: str | None) -> None:
        super().__init__(name=f"follows {run.name}", daemon=True)
        self.followed, self.job, self._token = run, job, token
        self._over = threading.Event()

    def run(self) -> None:
        run = self.followed
        try:
            with run.training_lock():
                threading.Thread(target=self._watch_for_stop, daemon=True).start()
                try:
                    end = self._follow()
                except RunError as error:  # what it brought does not fit
                    end = {"status": "failed", "reason": str(error)}
                finally:
                    self._over.set()
                run.withdraw_stop()
                run.append_metric({"event": "end", **end, "time": round(time.time(), 1)})
        except RunError:  # another one follows it already
            return
        except HubError as error:  # the job may still train: without an end the page offers to follow it anew
            with (run.path / LOG).open("a", encoding="utf-8") as log:
                log.write(f"{error}\n")

    def _follow(self) -> Metric:
        """Append what the job says; at its end bring its weights. Returns how it ended. Raises HubError, RunError."""
        run, job = self.followed, self.job
        known = len(run.metrics())  # of a job that was followed before: its log begins anew
        how: Metric | None = None
        with (run.path / LOG).open("a", encoding="utf-8") as log:
            for line in self._lines():
                metric = heard(line)
                if metric is None:
                    log.write(masked(line.rstrip()) + "\n")
                    log.flush()
                elif metric["event"] == "end":
                    how = metric
                elif known:
                    known -= 1
                else:
                    run.append_metric(metric)
        with translated_errors(self._wanted()):
            status = hub_api(self._token).inspect_job(job_id=job.id, namespace=job.namespace).status
        self._bring()
        if how is not None:
            return {name: how[name] for name in ("status", "reason", "cause") if name in how}
        if status.stage == JobStage.CANCELED:
            return {"status": "stopped"}
        message = f": {masked(status.message)}" if status.message else ""
        return {"status": "failed", "reason": f"The job on the Hub ended before the training did{message}."}

    def _lines(self) -> Iterator[str]:
        """The lines of the job's log until it has ended."""
        job, api = self.job, hub_api(self._token)
        with translated_errors(self._wanted()):
            yield from api.fetch_job_logs(job_id=job.id, namespace=job.namespace, follow=True)

    def _watch_for_stop(self) -> None:
        while not self._over.wait(STOP_LOOK_SECONDS):
            if self.followed.stop_requested():
                with suppress(HubError), translated_errors(self._wanted()):  # else once more in a moment
                    hub_api(self._token).cancel_job(job_id=self.job.id, namespace=self.job.namespace)
                    return

    def _bring(self) -> None:
        """Fetch what the job pushed, if it came so far. Raises HubError, RunError."""
        run, repo_id = self.followed, self.job.repo_id
        with translated_errors(self._wanted()):
            info = hub_api(self._token).model_info(repo_id, files_metadata=True)
            there = {file.rfilename: file.size or 0 for file in info.siblings or ()}
            files = [file for file in there if file in BROUGHT or _is_figure(file)]
            assert info.sha is not None  # the Hub always says which commit it answered for
            total = sum(there[file] for file in files)
            if total > MAX_BYTES:
                raise RunError(f"{repo_id} has {total / 1e9:.3g} GB, which cannot be what the job pushed.")
            found = download_files("model", repo_id, info.sha, files, total=total, token=self._token)
        for file, source in zip(files, found, strict=True):
            with replaced_atomically(run.path / file) as place:
                shutil.copyfile(source, place)
        if run.has_weights:
            run.load_model()  # refuses what does not fit

    def _wanted(self) -> Wanted:
        return Wanted(f"The job of {self.followed.name}", self.job.repo_id)


def _is_figure(file: str) -> bool:
    folder, name = os.path.split(file)
    return folder == FIGURES and name.endswith(".png") and not name.startswith(".")
