"""Build the app and launch it: `python app.py [--host HOST] [--port PORT] [--share]`."""

import argparse
import os
import threading
from pathlib import Path

# Read by gradio when it is imported. Its summary of past events costs 34 ms of every event once there are many.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000")

from resnet_space.zero import is_zero_gpu

if is_zero_gpu():
    import spaces  # noqa: F401  # before anything else that might touch CUDA

from resnet_space.config import ConfigError
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.limits import VARIABLES, Limits
from resnet_space.ui import Workshop, build_app
from resnet_space.ui.live import LiveFeed
from resnet_space.ui.style import CSS, theme

CHECKPOINTS = Path(__file__).parent / "checkpoints"
DATA = Path(__file__).parent / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tune a ResNet in the browser.")
    parser.add_argument("--host", default=None, help="address to listen on (default: 127.0.0.1; on a Space, all)")
    parser.add_argument("--port", type=int, default=None, help="port (default: 7860)")
    parser.add_argument("--share", action="store_true", help="make a public link that works for a week")
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="the folder of runs")
    parser.add_argument("--data", type=Path, default=None, help="the folder of data sets brought here (default: data)")
    arguments = parser.parse_args()

    # The trainer, a process of its own, finds it there too.
    os.environ[DATA_FOLDER_VARIABLE] = str(arguments.data or os.environ.get(DATA_FOLDER_VARIABLE) or DATA)
    public = arguments.share or arguments.host not in (None, "127.0.0.1", "localhost") or "SPACE_ID" in os.environ
    try:
        limits = Limits.from_environment(public=public)
    except ConfigError as error:
        parser.error(str(error))
    if limits.minutes is not None:  # the trainer, too, has to know
        os.environ[VARIABLES["minutes"]] = str(limits.minutes)
    workshop = Workshop(arguments.checkpoints, public=public, limits=limits)
    app = build_app(workshop)
    app.queue(max_size=64, default_concurrency_limit=2)
    app.launch(
        server_name=arguments.host,
        server_port=arguments.port or int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
        share=arguments.share,
        theme=theme(),
        css=CSS,
        run_history=False,
        ssr_mode=False,
        app_kwargs={"routes": LiveFeed(workshop).routes},
        prevent_thread_lock=True,
    )
    workshop.tend_queue()
    threading.Thread(target=workshop.warm_up, daemon=True).start()  # after the page is up, before it is used
    app.block_thread()


if __name__ == "__main__":
    main()
