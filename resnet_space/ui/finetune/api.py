"""What programs can ask of the fine-tune tab: `gradio_client`, plain HTTP, MCP."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.events import api

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import is_zero_gpu
from resnet_space.data.archives import ImportReport
from resnet_space.runs import last_metric
from resnet_space.serve import visitors
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.identity import token_of
from resnet_space.serve.uploads import uploaded_file
from resnet_space.serve.works import W, Works
from resnet_space.ui.finetune.form import Request, create_run, start_training
from resnet_space.ui.finetune.more_data import DATASET, bring_archive, download
from resnet_space.ui.finetune.proposals import form_values, proposal_for
from resnet_space.ui.finetune.share import publish
from resnet_space.ui.finetune.slices import LIMITS, also_hosting
from resnet_space.ui.pull import split_revision

POLL_SECONDS = 0.5


def training_status(context: AppContext, name: str) -> dict[str, Any]:
    """How a run's training stands, for programs: its state and its last metrics."""
    run = context.library.open(name)
    status = context.trainer.status(run)
    metrics = context.library.metrics(run)
    last = {event: last_metric(metrics, event) for event in ("step", "epoch", "test")}
    reason = " ".join(filter(None, (status.reason, status.note)))
    about = {"run": name, "state": status.state, "place": status.place, "reason": reason}
    return about | {"doing": asdict(status.doing) if status.is_active else None} | last


def described_import(name: str, report: ImportReport, key: str) -> dict[str, Any]:
    """What came of data that was brought here, for programs; "name" and "skipped" are what versions before said."""
    told = asdict(report)
    left_out = {"left_out": told["skipped"], "left_out_count": told["skipped_count"]}
    return {"dataset": name, **told, **left_out, "name": name, "key": key}


def own_key(context: AppContext, key: str) -> str:
    """The key that a program sent, or where it needs one, a new one."""
    return key or (visitors.new_key() if context.public else "")


def followed(works: Works[W], name: str, changes: Callable[[W], object], *, once: bool = False) -> Iterator[W]:
    """Work each time that `changes` gives something else, until it has ended; or `once`, as it is. Raises UserError."""
    before: object = None
    while True:
        found = works.open(name)
        ends, now = once or found.state != "running", changes(found)
        if ends or now != before:
            yield found
        if ends:
            return
        before = now
        time.sleep(POLL_SECONDS)


def build_api(context: AppContext) -> None:
    """The endpoints /start_training, /training_status, /stop_training, /push and /pull."""

    @costly
    def start_training_endpoint(
        start: str | None = None,
        dataset: str = DATASET,
        architecture: str | None = None,
        cbam: str | None = None,
        strategy: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        backbone_lr: float | None = None,
        head_lr: float | None = None,
        seed: int = 0,
        more: dict[str, Any] | None = None,
        key: str = "",
        name: str = "",
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Start a training that suits the data; one training runs at a time, the others wait.

        What is left out is proposed: from the data, the weights at hand and this machine's speed, for about a minute.

        Args:
            start: a trained run's name, ImageNet weights such as "resnet18.tv_in1k", or "random initialisation".
            dataset: the name from add_data, "cifar10-mini", or one of the Hub: "owner/name[@revision][#config]".
            architecture: used with random initialisation only, e.g. "resnet20".
            cbam: "none", "stage", "last" or, of a ResNet, "block", with random initialisation or a start without CBAM.
            strategy: what trains when, e.g. "linear-probe", "probe-then-fine-tune" or "full".
            epochs: passes over the training images.
            batch_size: images a step.
            backbone_lr: peak learning rate of everything but the head.
            head_lr: peak learning rate of the head.
            seed: of everything random.
            more: other settings by their names in config.json, e.g. {"mixup": 0.2, "image_size": 64}.
            key: a secret of yours that stops the run later; on a public app one is made where it is left out.
            name: of the run; without one it is numbered, such as "fine-tune-3".

        Returns:
            The run's name and state, as training_status gives them, the proposal with its reason and the seconds that
            it is expected to take (null where this machine's speed was not measured yet), and the key.
        """
        context.require_writable()
        key = own_key(context, key)
        if more is not None and not isinstance(more, dict):
            raise UserError('The other settings must be an object such as {"mixup": 0.2}.')
        chosen = {"start": start, "architecture": architecture, "cbam": cbam, "strategy": strategy}
        proposal = proposal_for(context, dataset, key, chosen)
        given = {"epochs": epochs, "batch_size": batch_size, "backbone_lr": backbone_lr, "head_lr": head_lr}
        given = {name: value for name, value in given.items() if value is not None}
        values = form_values(proposal)
        settings = {**proposal.settings, "strategy": values["strategy"], **given, "seed": seed, **(more or {})}
        asked = Request(
            values["start"], dataset, values["architecture"], values["cbam"], settings, key, str(name or "").strip()
        )
        run = start_training(context, lambda: create_run(context, asked), key)
        return training_status(context, run.name) | {"proposal": proposal.to_json() | values, "key": key}

    def training_status_endpoint(run: str) -> dict[str, Any]:
        """How a run's training stands: its state, its place in the queue, and its last metrics.

        The state is new, queued, starting, training, stopping, finished, stopped or failed, the latter with a reason.
        The place is 1 for the next one, 0 for one that does not wait.

        Args:
            run: the run's name.

        Returns:
            Its state (such as queued, training, finished, failed), place in the queue, reason, and last metrics.
        """
        return training_status(context, run)

    def stop_training_endpoint(run: str, key: str = "") -> dict[str, Any]:
        """Ask a run's trainer to stop at its next step, or take it from the queue; its best weights are kept.

        Args:
            run: the run's name.
            key: that start_training gave back.

        Returns:
            As training_status.
        """
        context.trainer.stop(context.own_run(run, key))
        return training_status(context, run)

    @costly
    def push_endpoint(
        run: str,
        repo_id: str,
        private: bool = False,
        key: str = "",
        licence: str = "",
        page: bool = False,
        signed_in: gr.OAuthToken | None = None,
        x_hf_token: gr.Header | None = None,
    ) -> str:
        """Push a trained run to the Hugging Face Hub as one commit: weights as safetensors, metrics, and a model card.

        Or publish it as a web page that runs the model in the visitor's browser: a static Space, free of charge.

        Where the app is public, send a token of yours that may write: as `oauth_token` of Gradio's clients, or, as over
        MCP, as the header X-HF-Token.

        Args:
            run: the run's name.
            repo_id: the repository, "user/name"; it is made where it is not there.
            private: whether a new repository is to be seen only by you.
            key: that start_training gave back.
            licence: by its SPDX name, such as "apache-2.0"; that of the starting weights where it is left out.
            page: publish the page instead; the repository is then a Space.

        Returns:
            The commit's address, or the Space's.
        """
        token = token_of(context, key, signed_in, x_hf_token)
        return publish(context, run, repo_id, key, token, private=private, licence=licence, page=page)

    @costly
    def pull_endpoint(
        repo_id: str, key: str = "", signed_in: gr.OAuthToken | None = None, x_hf_token: gr.Header | None = None
    ) -> dict[str, Any]:
        """Download a model of the Hugging Face Hub as a run: to predict with, to explore, to start from.

        For a private one send a token of yours that may read it: as `oauth_token` of Gradio's clients, or, as over MCP,
        as the header X-HF-Token.

        Args:
            repo_id: the repository, "user/name" or "user/name@revision".
            key: the secret of yours that start_training gave back, or any other.

        Returns:
            As training_status gives them, and the key.
        """
        key = own_key(context, key)
        name, revision = split_revision(repo_id)
        token = token_of(context, key, signed_in, x_hf_token)
        run = context.pull(name, key, revision=revision, token=token)
        return training_status(context, run.name) | {"key": key}

    for name, endpoint, queued in (
        ("start_training", start_training_endpoint, True),
        ("training_status", training_status_endpoint, False),
        ("stop_training", stop_training_endpoint, False),
        ("push", push_endpoint, True),
        ("pull", pull_endpoint, True),
    ):
        endpoint.__name__ = name  # what MCP calls the tool
        if endpoint is start_training_endpoint and is_zero_gpu():
            api(also_hosting(context, endpoint, training_status), api_name=name, **LIMITS)
        else:
            api(endpoint, api_name=name, queue=queued)


def build_data_api(context: AppContext) -> None:
    """The endpoint /add_data, on components that no page shows."""
    with gr.Group(visible=False):
        archive = gr.File(label="Archive")
        repo_id, config = gr.Textbox("", label="Repository"), gr.Textbox("", label="Configuration")
        labels, images = gr.Textbox("", label="Label column"), gr.Textbox("", label="Image column")
        folders, key = gr.Textbox("", label="Equal folders"), gr.Textbox("", label="Key")
        added = gr.JSON(label="Report")
        button = gr.Button()

    @costly
    def add_data(
        archive: dict[str, Any] | None,
        repo_id: str,
        config: str,
        label_column: str,
        image_column: str,
        folders: str,
        key: str,
    ) -> dict[str, Any]:
        """Bring images here as a dataset: an archive of class folders, or a dataset of the Hugging Face Hub.

        Args:
            archive: a zip or tar of class folders, or of images and a table of their labels; or null.
            repo_id: instead of an archive, a dataset of the Hub, "owner/name".
            config: its configuration; the first that can be used where it is left out.
            label_column: of the table or the dataset; found where it is left out.
            image_column: of the dataset, or the table's that names the files; found where it is left out.
            folders: "keep" where folders that all hold the same folders are the classes; else these are merged.
            key: a secret of yours that start_training gave back; on a public app one is made where it is left out.

        Returns:
            The name to train with as "dataset"; its classes; the counts, split -> class -> images; the files that were
            left out, with reasons; warnings, decisions, and the key.
        """
        context.require_writable()
        label, image = label_column or None, image_column or None
        if bool(archive) == bool(repo_id):
            raise UserError("Send either an archive or the id of a dataset on the Hub.")
        if not archive:
            dataset = download(context, repo_id.strip(), config or None, label, image, lambda *_: None)
            summary = context.datasets.summary(dataset.reference)
            counts = {split: dict(zip(summary.classes, found, strict=True)) for split, found in summary.counts.items()}
            report = ImportReport(dataset.classes, counts, (), 0, summary.warnings, list(dataset.decisions))
            return described_import(str(dataset.reference), report, key)
        if folders not in ("", "merge", "keep"):
            raise UserError(f"folders is {folders!r}, but must be 'merge' or 'keep'.")
        key = own_key(context, key)
        path = uploaded_file(archive)
        title = str(archive.get("orig_name") or path.name)
        wishes: Any = {"label_column": label, "image_column": image, "folders": folders or None}
        name, report = bring_archive(context, path, title, key, **wishes)
        return described_import(name, report, key)

    button.click(
        add_data,
        [archive, repo_id, config, labels, images, folders, key],
        added,
        api_name="add_data",
        preprocess=False,
        concurrency_limit=2,
    )
