"""Build the app and launch it: `python app.py --help` has the options."""

import contextlib
import io
import os
from functools import partial

# Read by gradio when it is imported. Its summary of past events costs 34 ms of every event once there are many.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000")

from resnet_space.common.hardware import is_zero_gpu, sleep_while_waiting
from resnet_space.serve.stubs import without_stubs
from resnet_space.serve.temporary import take_folder

sleep_while_waiting()  # read by torch when it is imported
take_folder()  # by gradio
with without_stubs():
    import gradio  # noqa: F401
if is_zero_gpu():
    import spaces  # noqa: F401  # before anything else that might touch CUDA

from resnet_space.common.background import in_background
from resnet_space.common.forking import start_fork_server
from resnet_space.runs.process import IMPORTED
from resnet_space.serve.connections import allowed_of_one, limit_connections
from resnet_space.serve.guard import protection
from resnet_space.serve.launch import addresses, allow_many_connections, bring_shipped, parsed_options, prepare, refuse
from resnet_space.serve.proposals import measure_speeds
from resnet_space.serve.uploads import Uploads
from resnet_space.serve.visitors import weak_owner_key
from resnet_space.ui import AppContext, build_app
from resnet_space.ui.assets import replaced_scripts
from resnet_space.ui.finetune.check.map import MapFiles
from resnet_space.ui.finetune.live import LiveFeed
from resnet_space.ui.scripts import HEAD, ROUTES
from resnet_space.ui.style import CSS, theme


def main() -> None:
    options = parsed_options()
    prepare(options)
    allow_many_connections()
    if options.public and not options.proxied:
        limit_connections(allowed_of_one())
    bring_shipped(options.checkpoints)
    context = AppContext(options.checkpoints, public=options.public, readonly=options.readonly, limits=options.limits)
    app = build_app(context)
    app.queue(default_concurrency_limit=2)
    mcp = not options.accounts  # Gradio's MCP server calls the app without a visitor's cookie
    parts = (LiveFeed(context), MapFiles(context), Uploads(context))
    routes = [*ROUTES, *replaced_scripts(), *(route for part in parts for route in part.routes)]
    printed = io.StringIO()  # what gradio prints, so that the address can be the last line
    try:
        with contextlib.redirect_stdout(printed):
            _, local, shared = app.launch(
                server_name=options.host,
                server_port=options.port,
                share=options.share,
                auth=list(options.accounts) or None,
                mcp_server=mcp,
                theme=theme(),
                css=CSS,
                head=HEAD,
                run_history=False,
                ssr_mode=False,
                prevent_thread_lock=True,
                **protection(options, routes=routes),
            )
    except OSError as error:
        refuse(error)
    context.storage.keep_tidy()
    if not options.readonly:
        context.start_background_work()
    in_background("Warming up", context.warm_up, 30.0)  # after the page is up, before it is used
    if context.trainer.spawns and not options.readonly:
        start_fork_server(IMPORTED)
        in_background("Measuring this machine's speed", partial(measure_speeds, context), 30.0)
    if options.public and (weak := weak_owner_key()):
        print(weak, flush=True)
    print(*addresses(options, local, shared, printed.getvalue(), mcp=mcp), sep="\n", flush=True)
    app.block_thread()


if __name__ == "__main__":
    main()
