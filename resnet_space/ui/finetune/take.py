"""Take the subject away: as a web page, as ONNX, or as its folder, with the command that repeats its training."""

from collections.abc import Callable
from pathlib import Path

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.common.faults import system_words
from resnet_space.hub.export import STAGES, Export, ending_of, export
from resnet_space.runs import WEIGHTS
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.downloads import own_folder
from resnet_space.ui.events import PRIVATE, PROGRESS, QUIET, Update
from resnet_space.ui.subject import Shared

LABELS = {  # of the formats
    "page": "Web page that runs the model",
    "page-int8": "Web page, 12-bit weights",
    "onnx": "ONNX",
    "onnx-int8": "ONNX, 12-bit weights",
    "safetensors": "Folder with safetensors",
}
STAGE_WORDS = {  # of an export
    "load": "Loading PyTorch and the model",
    "translate": "Translating the model",
    "check": "Checking the file against PyTorch",
    "quantize": "Rounding the weights",
    "page": "Writing the page",
}
OPEN = " Unpack the zip and open its index.html: the page works without a server and without a network."
RUNTIME_BYTES = 5_000_000  # of a page, beside its model


def build_take(shared: Shared) -> gr.Accordion:
    """Place the panel, which is about the subject, and wire its events."""
    context, subject = shared.context, shared.subject
    with gr.Accordion("Take it with you: web page, ONNX, safetensors", open=False, elem_id="take") as panel:
        kind = gr.Radio([(LABELS[name], name) for name in LABELS], value="page", label="Format")
        button = gr.Button("Export", size="sm")
        words = gr.Markdown(elem_classes="told")
        with gr.Column(visible=False) as exported:
            files = gr.Files(label="The file", interactive=False)
            command = gr.Code(label="Command that repeats the training", language="shell", interactive=False)

    @costly
    def on_export(name: str, chosen: str, progress: gr.Progress = PROGRESS) -> Update:
        done = exported_file(context, name, chosen, reporting(progress))
        run = context.library.open(name)
        # Where the app's own folders are is nobody else's business.
        path = Path("checkpoints", name) if context.public else run.path
        return {
            exported: gr.update(visible=True),
            files: [str(done.path)],
            words: done.words + (OPEN if chosen.startswith("page") else ""),
            command: f"python -m resnet_space.train {path}-again --like {path}",
        }

    views = [exported, files, words, command]
    button.click(on_export, [subject.run, kind], views, concurrency_limit=1, show_progress_on=words, **PRIVATE)
    gr.on(
        [subject.run.change, kind.change],
        lambda: {exported: gr.update(visible=False), words: ""},
        None,
        [exported, words],
        **QUIET,
    )
    found: gr.Accordion = panel
    return found


def reporting(progress: gr.Progress) -> Callable[[str], None]:
    """Moves the bar as the stages of an export begin."""
    progress(0.0, desc="Starting a separate process")

    def report(stage: str) -> None:
        progress((STAGES.index(stage) + 1) / (len(STAGES) + 1), desc=STAGE_WORDS[stage])

    return report


def exported_file(context: AppContext, name: str, kind: str, tell: Callable[[str], None] | None = None) -> Export:
    """A run as a file of a visitor's, in one of `FORMATS`.

    Raises:
        UserError: for an unknown run or format, or a run that cannot be exported.
    """
    ending = ending_of(kind)
    run = context.library.open(name)
    try:
        # What is written on the way is as large as the result.
        size = 3 * (run.path / WEIGHTS).stat().st_size + RUNTIME_BYTES if run.has_weights else 0
        with own_folder(size) as folder, context.slots.taken("exports"):
            return export(run, folder / f"{name}-{kind}.{ending}", kind, tell)
    except UserError as error:  # perhaps the last line of the process that writes it
        raise UserError(system_words(error) or str(error)) from None


def build_export_api(context: AppContext) -> None:
    """The endpoint /export, on components that no page shows."""
    with gr.Group(visible=False):
        name, kind = gr.Textbox("", label="Run"), gr.Textbox("onnx", label="Format")
        file, about = gr.File(label="File"), gr.JSON(label="What was checked")
        button = gr.Button()

    @costly
    def export_endpoint(run: str, format: str = "onnx") -> tuple[str, dict[str, str]]:
        """Export a trained run as one file that needs nothing of this app.

        The ONNX file takes pictures as they are, uint8 [N, H, W, 3] in RGB and of any size, as its input "images". Its
        outputs are probabilities (calibrated), top_probabilities, top_indices and top_names (strings), logits, and
        where the run has them ood_score (above 1 for a picture unlike the training images) and maps (class maps).
        The page is a zip with an index.html that runs the model in any browser, offline too.

        Args:
            run: the run's name.
            format: "page" or "onnx", with 12-bit weights "page-int8" or "onnx-int8"; "safetensors" (a zipped folder).

        Returns:
            The file; and {"run": ..., "format": ..., "words": how closely it gives the run's answers}.
        """
        done = exported_file(context, run, format)
        return str(done.path), {"run": run, "format": format, "words": done.words}

    export_endpoint.__name__ = "export"
    button.click(export_endpoint, [name, kind], [file, about], api_name="export", preprocess=False, concurrency_limit=1)
