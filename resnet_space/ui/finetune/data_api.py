"""What programs can ask of the data panel: `gradio_client`, plain HTTP, MCP."""

from dataclasses import asdict
from typing import Any

import gradio as gr

from resnet_space.serve import visitors
from resnet_space.serve.handlers import costly
from resnet_space.serve.refusals import refusal
from resnet_space.serve.uploads import uploaded_file
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.finetune.more_data import bring_archive, download


def build_data_api(workshop: Workshop) -> None:
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
        """Bring images here as a data set: an archive of class folders, or a data set of the Hugging Face Hub.

        Args:
            archive: a zip or tar of class folders, or of images and a table of their labels; or null.
            repo_id: instead of an archive, a data set of the Hub, "owner/name".
            config: its configuration; the first that can be used where it is left out.
            label_column: of the table or the data set; found where it is left out.
            image_column: of the data set, or the table's that names the files; found where it is left out.
            folders: "keep" where folders that all hold the same folders are the classes; else these are merged.
            key: a secret of yours that start_training gave back; on a public app one is made where it is left out.

        Returns:
            The name to train with, the classes, counts, skipped files, warnings and decisions, and the key.
        """
        workshop.require_writable()
        label, image = label_column or None, image_column or None
        if bool(archive) == bool(repo_id):
            raise refusal("Send either an archive or the id of a data set of the Hub.")
        if not archive:
            dataset = download(workshop, repo_id.strip(), config or None, label, image, lambda *_: None)
            about = {"classes": dataset.classes, "counts": {}, "skipped": (), "skipped_count": 0, "warnings": ()}
            decisions = [asdict(decision) for decision in dataset.decisions]
            return {"name": str(dataset.reference), **about, "decisions": decisions, "key": key}
        if folders not in ("", "merge", "keep"):
            raise refusal(f"folders is {folders!r}, but must be 'merge' or 'keep'.")
        key = key or (visitors.new_key() if workshop.public else "")
        path = uploaded_file(archive)
        wanted = str(archive.get("orig_name") or path.name)
        wishes: Any = {"label_column": label, "image_column": image, "folders": folders or None}
        name, report = bring_archive(workshop, path, wanted, key, **wishes)
        return {"name": name, **asdict(report), "key": key}

    button.click(
        add_data,
        [archive, repo_id, config, labels, images, folders, key],
        added,
        api_name="add_data",
        preprocess=False,
        concurrency_limit=2,
    )
