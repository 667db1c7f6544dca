"""What a prediction costs: `python benchmarks/predict.py [--rounds N] [--clients N] [--many [N]] [--save]`.

Starts the app as the README says and sends a 4-megapixel JPEG to `/predict` over plain HTTP (upload, call, answer),
maps included, in turns with the same done by hand in this process: decode, resize, forward pass, figure of the maps.
Then so many clients at once, in turns with the same number of requests one after the other. Last, whether the app's
memory grows over many predictions (`--many` without a number: 10,000): each is a session of its own, of which it keeps
400.
"""

import argparse
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.runs import SHOWPIECE, Run

SIZE = (2304, 1728)  # 4 megapixels
BOUNDARY = "a-part-of-the-request"


def photograph() -> bytes:
    """A JPEG with as much in it as a photograph's: large shapes, and noise as a camera's."""
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (27, 36, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC), dtype=np.float32)
    pixels = pixels + random.normal(0, 6, pixels.shape).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


class ByHand:
    """The least that any script must do, with the same libraries."""

    def __init__(self) -> None:
        import torch

        config = Run.open(ROOT / "checkpoints" / SHOWPIECE)
        self.model = config.load_model()
        self.config = config.config.model
        self.torch = torch

    def __call__(self, content: bytes) -> bytes:
        """The maps' figure as a PNG; the top-5 are looked up on the way."""
        from matplotlib.figure import Figure

        torch, config = self.torch, self.config
        image = Image.open(io.BytesIO(content)).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        small = image.crop((left, top, left + side, top + side)).resize((32, 32), Image.Resampling.BICUBIC)
        x = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255
        x = (x - torch.tensor(config.mean)[:, None, None]) / torch.tensor(config.std)[:, None, None]
        gates: list[Any] = []
        handles = [
            self.model.get_submodule(f"cbam{i}.spatial.gate").register_forward_hook(
                lambda _m, _i, gate: gates.append(gate)
            )
            for i in (1, 2, 3)
        ]
        with torch.inference_mode():
            self.model(x).softmax(1).topk(5)
        for handle in handles:
            handle.remove()
        figure = Figure(figsize=(10, 3), layout="constrained")
        axes = figure.subplots(1, 4)
        axes[0].imshow(small)
        for place, gate in zip(axes[1:], gates, strict=True):
            place.imshow(small)
            place.imshow(gate[0, 0].numpy(), vmin=0, vmax=1, alpha=0.6, extent=(0, 32, 32, 0))
            place.axis("off")
        figure.colorbar(axes[-1].images[-1], ax=axes)
        file = io.BytesIO()
        figure.savefig(file, format="png")
        return file.getvalue()


class Client:
    """`/predict` by plain HTTP, as any program would."""

    def __init__(self, url: str) -> None:
        self.api = f"{url}/gradio_api"

    def __call__(self, content: bytes) -> int:
        """Upload, call, wait for the answer: its length. Raises RuntimeError where it is an error."""
        body = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="photo.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode() + content
        body += f"\r\n--{BOUNDARY}--\r\n".encode()
        path = json.loads(self._ask("/upload", body, f"multipart/form-data; boundary={BOUNDARY}"))[0]
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, SHOWPIECE]
        event = json.loads(self._ask("/call/predict", json.dumps({"data": data}).encode(), "application/json"))
        answer = self._ask(f"/call/predict/{event['event_id']}", None, "")
        if b"event: complete" not in answer:
            raise RuntimeError(answer.decode(errors="replace")[-500:])
        return len(answer)

    def _ask(self, path: str, body: bytes | None, kind: str) -> bytes:
        request = urllib.request.Request(self.api + path, body, {"Content-Type": kind} if kind else {})
        with urllib.request.urlopen(request, timeout=300) as answer:
            content: bytes = answer.read()
            return content


@contextmanager
def running_app() -> Generator[tuple[str, psutil.Process]]:
    """The app's address and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"GRADIO_TEMP_DIR": f"{folder}/uploads", "HF_HOME": f"{folder}/hf"}
        command = [sys.executable, "app.py", f"--port={port}", f"--data={folder}/data"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"
        try:
            while True:
                try:
                    urllib.request.urlopen(url).close()
                    break
                except (urllib.error.URLError, ConnectionError):
                    if process.poll() is not None:
                        raise RuntimeError("The app ended before it was up.") from None
                    time.sleep(0.2)
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def seconds(call: Any, *arguments: Any) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def at_once(client: Client, contents: list[bytes]) -> None:
    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(client, contents))  # which raises what any of them raised


def one_by_one(client: Client, contents: list[bytes]) -> None:
    for content in contents:
        client(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--many", type=int, nargs="?", const=10_000, default=800, help="predictions for the memory")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/predict.json")
    arguments = parser.parse_args()
    content = photograph()
    by_hand = ByHand()
    with running_app() as (url, process):
        client = Client(url)
        for _ in range(3):  # warm
            client(content)
            by_hand(content)
        pairs = [(seconds(client, content), seconds(by_hand, content)) for _ in range(arguments.rounds)]
        ratios = [ours / theirs for ours, theirs in pairs]
        ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
        results: dict[str, Any] = {
            "megapixels": SIZE[0] * SIZE[1] / 1e6,
            "jpeg_bytes": len(content),
            "seconds": {"app": ours, "by_hand": theirs},
            "ratio": {"median": statistics.median(ratios), "quartiles": statistics.quantiles(ratios, n=4)[::2]},
        }
        print(f"/predict {ours * 1e3:.0f} ms, by hand {theirs * 1e3:.0f} ms, ratio {results['ratio']['median']:.2f}")

        contents = [content] * arguments.clients
        turns = [(seconds(at_once, client, contents), seconds(one_by_one, client, contents)) for _ in range(5)]
        gain = statistics.median(serial / parallel for parallel, serial in turns)
        parallel, serial = (statistics.median(times) for times in zip(*turns, strict=True))
        results["clients"] = {
            "count": arguments.clients,
            "per_second_at_once": arguments.clients / parallel,
            "per_second_one_by_one": arguments.clients / serial,
            "ratio": gain,
        }
        print(
            f"{arguments.clients} at once: {arguments.clients / parallel:.1f} a second, "
            f"one after the other {arguments.clients / serial:.1f}; ratio {gain:.2f}, no errors"
        )

        small = io.BytesIO()
        Image.open(io.BytesIO(content)).resize((256, 192)).save(small, "JPEG")
        memory = []
        for done in range(arguments.many):
            if done % max(arguments.many // 20, 1) == 0:
                memory.append(round(process.memory_info().rss / 1e6))
            client(small.getvalue())
        memory.append(round(process.memory_info().rss / 1e6))
        results["memory"] = {"predictions": arguments.many, "megabytes": memory}
        print(f"memory over {arguments.many:,} predictions (MB): {' '.join(map(str, memory))}")
    if arguments.save:
        save("predict", results)


if __name__ == "__main__":
    main()
