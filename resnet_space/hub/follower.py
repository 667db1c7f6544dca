"""The app's side of a remote training: write the output of a job to the run's folder as if it trained here."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from huggingface_hub import JobStage

from resnet_space.common.background import in_background, keep_doing
from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import HubError, HubRequest, download_files, hub_api, translated_errors
from resnet_space.common.tokens import masked
from resnet_space.hub.install import install, repository_at
from resnet_space.hub.jobs import Job
from resnet_space.hub.published import logged_metric
from resnet_space.runs import (
    CONFIG,
    LOG,
    METRICS,
    RESUME,
    WEIGHTS,
    Metric,
    Run,
    Source,
    last_metric,
    present_name,
    replaced_atomically,
)

STOP_LOOK_SECONDS = 1.0
ENDED = (JobStage.COMPLETED, JobStage.CANCELED, JobStage.ERROR, JobStage.DELETED)
AGAIN_SECONDS = (5.0, 20.0, 60.0, 120.0)  # delays before retries of a broken connection


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
        self.has_begun = threading.Event()  # set when the run counts as training, or cannot
        self._over = threading.Event()

    def run(self) -> None:
        try:
            keep_doing(f"Following the job of {self.followed.name}", self._follow_to_its_end, AGAIN_SECONDS[-1])
        finally:
            self.has_begun.set()

    def _follow_to_its_end(self) -> bool:
        """Whether following is over because the job ended, is unreachable or is followed by another app; else retry."""
        run = self.followed
        try:
            with run.training_lock():
                self.has_begun.set()
                self._over.clear()
                in_background(f"Stopping the job of {run.name}", self._stop_where_asked, STOP_LOOK_SECONDS)
                try:
                    end = self._follow_on()
                except HubError:
                    raise
                except UserError as error:  # what it brought does not fit
                    if error.passing:
                        raise
                    end = {"status": "failed", "reason": str(error)}
                finally:
                    self._over.set()
                run.withdraw_stop()
                run.append_metric({"event": "end", **end, "time": round(time.time(), 1)})
        except HubError as error:  # the job may still train: without an "end", the page offers to follow it again
            self._note(str(error))
        except UserError as error:  # another app already follows it, or a system error may pass
            if error.passing:
                raise
        return True

    def _follow_on(self) -> Metric:
        """Follow the job across temporary connection failures."""
        for wait in AGAIN_SECONDS:
            try:
                return self._follow()
            except HubError as error:
                self._note(f"{error} Retrying in {wait:.0f} s.")
                time.sleep(wait)
        return self._follow()

    def _note(self, words: str) -> None:
        with suppress(OSError), (self.followed.path / LOG).open("a", encoding="utf-8") as log:
            log.write(masked(words.rstrip()) + "\n")

    def _follow(self) -> Metric:
        """Append the job's metrics; at its end fetch its weights. Returns how it ended. Raises HubError, UserError."""
        run, job = self.followed, self.job
        known = len(run.metrics())  # if the job was followed before, its log starts again from the beginning
        how: Metric | None = None
        for line in self._lines():
            metric = logged_metric(line)
            if metric is None:
                self._note(line)
            elif metric["event"] == "end":
                how = metric
            elif known:
                known -= 1
            else:
                run.append_metric(metric)
        with translated_errors(self._request()):
            status = hub_api(self._token).inspect_job(job_id=job.id, namespace=job.namespace).status
        if how is None and status.stage not in ENDED:
            raise HubError(f"The log of the job of {run.name} was interrupted while it trains.")
        brought = self._bring()
        if how is None and (end := last_metric(brought, "end")):  # the log was interrupted before that line
            for metric in brought[len(run.metrics()) :]:
                if metric["event"] != "end":
                    run.append_metric(metric)
            how = end
        if how is not None:
            return {name: how[name] for name in ("status", "reason", "cause") if name in how}
        if status.stage == JobStage.CANCELED:
            return {"status": "stopped"}
        message = f": {masked(status.message)}" if status.message else ""
        return {"status": "failed", "reason": f"The Hugging Face job ended before the training finished{message}."}

    def _lines(self) -> Iterator[str]:
        """The lines of the job's log until it has ended."""
        job, api = self.job, hub_api(self._token)
        with translated_errors(self._request()):
            yield from api.fetch_job_logs(job_id=job.id, namespace=job.namespace, follow=True)

    def _stop_where_asked(self) -> bool:
        """Whether nothing is left to stop."""
        if not self._over.is_set() and self.followed.stop_requested():
            with suppress(HubError), translated_errors(self._request()):  # else once more in a moment
                hub_api(self._token).cancel_job(job_id=self.job.id, namespace=self.job.namespace)
                return True
        return self._over.is_set()

    def _bring(self) -> list[Metric]:
        """Fetch what the job pushed, if anything, and check it like any pull. Returns its metrics.

        Raises:
            HubError: if it cannot be fetched.
            UserError: if it does not match the job.
        """
        run, request = self.followed, self._request()
        with translated_errors(request):
            info = hub_api(self._token).model_info(self.job.repo_id, files_metadata=True)
            if WEIGHTS not in {file.rfilename for file in info.siblings or ()}:
                return []
            there = repository_at(request, self._token)
            commit, sizes = there.commit, there.sizes
            total = sum(sizes.values())
            paths = download_files("model", self.job.repo_id, commit, list(sizes), total=total, token=self._token)
        with tempfile.TemporaryDirectory(dir=run.path / RESUME) as beside:
            source, files = Source(self.job.repo_id, commit), dict(zip(sizes, paths, strict=True))
            try:
                made = install(request.what, files, run.config, source, Path(beside), iter([run.name]))
            except HubError as error:
                raise UserError(str(error)) from None
            for file in map(present_name, sizes):
                if file not in (CONFIG, METRICS):
                    with replaced_atomically(run.path / file) as place:
                        shutil.copyfile(made.path / file, place)
            return made.metrics()

    def _request(self) -> HubRequest:
        return HubRequest(f"The job of {self.followed.name}", self.job.repo_id)
