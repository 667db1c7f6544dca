"""An app of a few handlers behind the guard, to be asked by many addresses: `python -m tests.handlers_app FOLDER`.

In a process of its own, as Gradio's server leaves sockets open. It prints its address.
"""

import sys
import threading
from typing import Any

from resnet_space.serve.stubs import without_stubs

with without_stubs():
    import gradio as gr
    from starlette.middleware import Middleware

    from resnet_space.common.errors import UserError
    from resnet_space.serve.guard import Guard, protection
    from resnet_space.serve.handlers import Guarded, costly
    from resnet_space.serve.launch import parsed_options
    from resnet_space.serve.limits import Limits
    from resnet_space.serve.visitors import asking

A_MINUTE = 30
LIMITS = Limits(requests=A_MINUTE, streams=8)


def build() -> Guarded:
    """The app, whose `slow` handlers wait until `open` opens the gate for them."""
    gate = threading.Event()
    running: list[str] = []  # the addresses for which `slow` runs
    with Guarded(LIMITS) as app:
        text, out, kept = gr.Textbox(), gr.Textbox(), gr.State(0)
        data, files = gr.JSON(), gr.File(file_count="multiple")

        def quick(value: str) -> str:
            return f"{value} for {asking()}"

        @costly
        def slow(value: str) -> str:
            running.append(asking())
            gate.wait(60)
            running.remove(asking())
            return value

        def fail(value: str) -> str:
            raise {"run": UserError, "os": OSError, "odd": ZeroDivisionError}[value]("<b>why")

        def count(seen: int) -> tuple[int, str]:
            return seen + 1, str(seen + 1)

        def state() -> dict[str, Any]:
            sessions = list(app.app.state_holder.session_data)
            jobs, look = len(list(app._queue.jobs())), app._queue.sleep_when_free
            return {"running": running, "jobs": jobs, "sessions": sessions, "look": look}

        def set_gate(opened: bool) -> None:
            (gate.set if opened else gate.clear)()

        text.submit(quick, text, out, api_name="quick")
        text.submit(slow, text, out, api_name="slow", concurrency_limit=20)
        text.submit(slow, text, out, api_name="slow_too", concurrency_id="another kind")
        text.submit(fail, text, out, api_name="fail")
        text.submit(count, kept, [kept, out], api_name="count")
        text.submit(lambda found: str(len(found)), files, out, api_name="files", preprocess=False)
        text.submit(state, None, data, api_name="state", queue=False)
        text.submit(set_gate, data, None, api_name="set_gate", queue=False)
    app.queue(default_concurrency_limit=4)
    return app


def main() -> None:
    folder = sys.argv[1]
    options = parsed_options([f"--checkpoints={folder}", f"--data={folder}", "--host=0.0.0.0"])
    protected = protection(options, routes=[])
    protected["app_kwargs"]["middleware"] = [Middleware(Guard, limits=LIMITS, proxied=True)]
    app = build()
    _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, run_history=False, **protected)
    print(address, flush=True)
    app.block_thread()


if __name__ == "__main__":
    main()
