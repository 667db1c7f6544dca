"""Train a run on a Hub GPU with Hugging Face Jobs, at the user's expense.

The run's configuration and the weights that it starts from go to a repository; the job starts the same trainer (`python
-m resnet_space.train RUN_DIR --hub REPO`) in the image of a Space of this app, writes each metric to its log, and
pushes the run from time to time and at the end (`published.py`). Here, a `Follower` (`follower.py`) appends the metrics
to the run's folder, as a trainer would, and fetches the weights when they are ready. A run that returns from a job is a
run like any other.
"""

import math
import os
from dataclasses import dataclass

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from resnet_space.common.hub_client import (
    HubError,
    HubRequest,
    hub_api,
    require_owned_id,
    sent_token,
    translated_errors,
)
from resnet_space.common.records import read_record, write_record
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.restyled import RESTYLED
from resnet_space.data.sources import BUNDLED
from resnet_space.runs import CONFIG, JOB, NOTICE, START_WEIGHTS, Run

SPACE_VARIABLE = "RESNET_SPACE_JOBS_SPACE"  # "user/name" of a Space with this app, whose image the jobs use
APP_IN_IMAGE = "/home/user/app"  # the repository's folder in a Space's image
START_FILE = "start.safetensors"  # in the repository, until the job has read it
MIN_MINUTES = 5  # to set up, to train, and to push
MAX_MINUTES = 8 * 60  # the lifetime of a visitor's sign-in, which the job pushes with
SETUP_SECONDS = 90.0  # before a job trains: pulling the image, importing PyTorch, decoding the data

# Peak bfloat16 (T4: float16) TFLOP/s without sparsity, from NVIDIA's data sheets.
PEAK_TFLOPS = {"T4": 65, "L4": 121, "A10G": 70, "L40S": 362, "A100": 312, "H100": 989, "H200": 989, "RTX PRO 6000": 504}
EFFICIENCY = 0.15  # of the peak, for small convolutions; a conservative guess
STEP_SECONDS = 0.015  # minimum per step, for launching kernels


@dataclass(frozen=True)
class Flavour:
    """A type of machine for jobs.

    Attributes:
        name: as the Hub knows it.
        words: for display, with the GPU and its memory.
        price_per_hour: in US dollars.
        tflops: peak of its GPUs; 0 for a machine without one.
    """

    name: str
    words: str
    price_per_hour: float
    tflops: float

    def cost(self, seconds: float) -> float:
        """In US dollars; the Hub bills by the minute."""
        return math.ceil(seconds / 60) * self.price_per_hour / 60


@dataclass(frozen=True)
class Job:
    """A Hugging Face job that trains a run; stored in the run's folder, without a token."""

    id: str
    namespace: str
    repo_id: str
    flavour: str


def job_of(run: Run) -> Job | None:
    """The job that trains a run or trained it, if there is one."""
    try:
        return read_record(Job, run.path / JOB)
    except (OSError, ValueError):
        return None


def list_flavours(token: str | None = None) -> list[Flavour]:
    """The machines with a GPU that jobs can run on, the cheapest first. Raises HubError."""
    with translated_errors(HubRequest("The list of machines for jobs")):
        found = hub_api(token).list_jobs_hardware()
    flavours = []
    for hardware in found:
        if (gpu := hardware.accelerator) is None:
            continue
        tflops = peak_tflops(gpu.model)
        price = hardware.unit_cost_usd * (60 if hardware.unit_label == "minute" else 1)
        words = f"{hardware.pretty_name}: {gpu.quantity} x {gpu.model}, {gpu.vram}"
        flavours.append(Flavour(hardware.name, words, price, float(tflops)))
    return sorted(flavours, key=lambda flavour: flavour.price_per_hour)


def peak_tflops(gpu: str) -> float:
    """Peak TFLOP/s of a GPU by its name on the Hub; 0 if it is not in the table."""
    names = [name for name in PEAK_TFLOPS if name in gpu]  # "L40S" has an "L4" in it
    return float(PEAK_TFLOPS[max(names, key=len)]) if names else 0.0


def forward_flops(model: ModelConfig) -> float:
    """Floating-point operations of one image's forward pass: twice the multiplications in convolutions and the head."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = model.build_unfilled().eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, 3, model.image_size, model.image_size))
    return float(counter.get_total_flops())


def estimated_seconds(config: RunConfig, images: int, flavour: Flavour) -> float:
    """Rough time of a training as a job: set-up, then the GPU's computation or the minimum time per step.

    Infinity for a machine of unknown speed.
    """
    training = config.training
    steps = math.ceil(images / training.batch_size) * training.total_epochs
    passes = 3 * forward_flops(config.model) * training.batch_size  # the backward pass costs twice the forward pass
    one_gpu = flavour.tflops * 1e12 * EFFICIENCY  # several GPUs are not used yet
    return SETUP_SECONDS + steps * max(STEP_SECONDS, passes / one_gpu if one_gpu else math.inf)


def jobs_space() -> str | None:
    """The Space whose image jobs run in: this one, or the one named in the environment."""
    return os.environ.get(SPACE_VARIABLE) or os.environ.get("SPACE_ID") or None


def start_job(run: Run, repo_id: str, flavour: str, minutes: int, *, token: str | None) -> Job:
    """Start a run's training as a job of the token's owner.

    Args:
        run: that was not trained yet.
        repo_id: the repository, "user/name", through which it returns; created as private if it does not exist.
        flavour: a name of `list_flavours`.
        minutes: time limit after which the Hub ends it.
        token: may create repositories and start jobs; the job gets it as a secret. None: the saved login.

    Raises:
        HubError: if that is not possible, in one sentence.
    """
    space = jobs_space()
    if space is None:
        raise HubError(f"A job runs in the image of a Space with this app: set {SPACE_VARIABLE} to its name.")
    require_owned_id(repo_id, "repository", "ann/birds")
    if not MIN_MINUTES <= minutes <= MAX_MINUTES:
        raise HubError(f"The time limit must be {MIN_MINUTES} to {MAX_MINUTES} minutes, not {minutes}.")
    config = run.config.training
    for dataset in filter(None, (config.dataset, config.target)):
        if "/" not in dataset and dataset not in RESTYLED and not (BUNDLED / dataset).is_dir():
            raise HubError(
                f"The dataset {dataset} exists only on this machine: choose a dataset from the Hub for a job."
            )
    secret = token or (get_token() if sent_token(None) is None else None)
    if secret is None:
        raise HubError("A job needs a Hugging Face account to pay for it: sign in first.")
    api = hub_api(token)
    request = HubRequest(f"The job for {run.name}", repo_id, instead="train on this machine", done="started")
    operations = [CommitOperationAdd(CONFIG, run.path / CONFIG)]
    if (run.path / NOTICE).exists():
        operations.append(CommitOperationAdd(NOTICE, run.path / NOTICE))
    if (run.path / START_WEIGHTS).exists():
        operations.append(CommitOperationAdd(START_FILE, run.path / START_WEIGHTS))
    with translated_errors(request):
        _make_empty(api, repo_id)
        api.create_commit(repo_id, operations, commit_message=f"{run.name}, to be trained")
        command = ["python", "-m", "resnet_space.train", f"/tmp/{run.name}", "--hub", repo_id]
        try:
            info = api.run_job(
                image=f"hf.co/spaces/{space}",
                command=command,
                env={
                    "RESNET_SPACE_MAX_MINUTES": str(minutes - 3),  # so that it ends by itself, and pushes
                    "PYTHONPATH": APP_IN_IMAGE,
                    SPACE_VARIABLE: space,  # which the card links to
                },
                secrets={"HF_TOKEN": secret},
                flavor=flavour,
                timeout=60 * minutes,
                labels={"resnet_space": run.name},
            )
        except HfHubHTTPError:  # refused, perhaps for lack of credit: leave the repository empty for a retry
            undone = [CommitOperationDelete(operation.path_in_repo) for operation in operations]
            api.create_commit(repo_id, undone, commit_message=f"{run.name} could not be started")
            raise
    job = Job(info.id, info.owner.name, repo_id, flavour)
    write_record(job, run.path / JOB)
    return job


def _make_empty(api: HfApi, repo_id: str) -> None:
    """Make the repository, or take an empty one that an earlier try left: in another, what is there could be taken for
    the job's result.
    """
    try:
        api.create_repo(repo_id, private=True)
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
        there = {file.rfilename for file in api.model_info(repo_id).siblings or ()}
        if there - {".gitattributes"}:
            raise HubError(f"{repo_id} already exists on the Hub: a job needs a new repository.") from None
