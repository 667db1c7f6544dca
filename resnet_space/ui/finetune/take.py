"""Take the subject away: its weights and configuration, as ONNX too, and the command that repeats its training."""

import shutil
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.common.faults import system_words
from resnet_space.runs import CONFIG, WEIGHTS
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.downloads import own_folder
from resnet_space.ui.events import PRIVATE, PROGRESS, QUIET
from resnet_space.ui.subject import Subject

STAGE_WORDS = {  # of an export
    "load": "Loading PyTorch and the model",
    "translate": "Translating the model",
    "check": "Checking the file against PyTorch",
}


def build_take(context: AppContext, subject: Subject) -> gr.Accordion:
    """Place the panel, which is about the subject, and wire its events."""
    with gr.Accordion("Take it with you: safetensors, ONNX, configuration", open=False, elem_id="take") as panel:
        export = gr.Button("Export", size="sm")
        words = gr.Markdown(elem_classes="told")
        with gr.Column(visible=False) as exported:
            files = gr.Files(label="Weights as safetensors and ONNX, and the configuration", interactive=False)
            command = gr.Code(label="Command that repeats the training", language="shell", interactive=False)

    @costly
    def on_export(name: str, progress: gr.Progress = PROGRESS) -> dict[Any, Any]:
        from resnet_space.hub.export import STAGES, export_onnx

        def report(stage: str) -> None:
            progress((STAGES.index(stage) + 1) / (len(STAGES) + 1), desc=STAGE_WORDS[stage])

        progress(0.0, desc="Starting a separate process")
        run = context.library.open(name)
        try:
            # With the ONNX file, which is as large as the weights.
            with own_folder(2 * (run.path / WEIGHTS).stat().st_size if run.has_weights else 0) as folder:
                with context.slots.taken("exports"):
                    onnx = export_onnx(run, folder / f"{name}.onnx", report)
                copies = [shutil.copyfile(run.path / file, folder / f"{name}-{file}") for file in (WEIGHTS, CONFIG)]
        except UserError as error:  # perhaps the last line of the process that writes it
            raise UserError(system_words(error) or str(error)) from None
        by = f"by at most {onnx.largest_difference:.0e} of the largest" if onnx.largest_difference else "by nothing"
        # Where the app's own folders are is nobody else's business.
        path = Path("checkpoints", name) if context.public else run.path
        return {
            exported: gr.update(visible=True),
            files: [str(path) for path in (*copies, onnx.path)],
            words: f"On random images, the logits of the ONNX file differ from PyTorch's {by}.",
            command: f"python -m resnet_space.train {path}-again --like {path}",
        }

    views = [exported, files, words, command]
    export.click(on_export, subject.run, views, concurrency_limit=1, show_progress_on=words, **PRIVATE)
    subject.run.change(lambda: {exported: gr.update(visible=False), words: ""}, None, [exported, words], **QUIET)
    found: gr.Accordion = panel
    return found
