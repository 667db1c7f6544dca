"""What several test modules need: datasets in the Hub's layout, made on the spot."""

import gc
import json
import os
import ssl
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

# Several workers test at once, and PyTorch's threads spin while they wait for one another. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _pytest.unraisableexception import gc_collect_iterations_key

from resnet_space.serve.stubs import without_stubs

# No test speaks TLS, and each HTTP client that is made reads the certificates of all authorities, for 0.04 s.
vars(ssl)["SSLContext"].load_verify_locations = lambda *_where, **_at: None

# What takes longest begins first: then no process has a long file to itself at the end. Files of tests/ui, which mostly
# wait for an app and its browser, take turns with files that compute.
LONGEST = (
    "ui/test_browser",
    "ui/test_durable",
    "training/test_train",
    "ui/test_hub",
    "ui/test_predict",
    "hub/test_export",
    "ui/test_api",
    "ui/test_explore",
    "hub/test_jobs",
    "ui/test_after",
    "ui/test_photographs",
    "serve/test_zero",
    "training/test_distributed",
    "hub/test_pull",
    "ui/test_zero",
    "ui/test_teach",
    "runs/test_kill",
    "runs/test_queue",
    "ui/test_hostile",
    "data/test_hub_data",
    "ui/test_closed",
    "hub/test_push",
    "ui/test_mcp",
    "data/test_archives",
    "tests/test_own_networks",
    "ui/test_raw_calls",
    "training/test_range_test",
    "tests/test_catalogue",
    "training/test_speeds",
    "ui/test_page",
    "hub/test_pretrained",
    "training/test_features",
    "serve/test_handlers",
    "training/test_probe",
)


# Modules of tests/ui that share an app, so that they are for one process.
OF_ONE_APP = (("browser", "api", "explore", "after", "mcp"), ("photographs", "teach"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "loadfile":
        return None  # as asked for
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            name = file.removeprefix("tests/ui/test_").removesuffix(".py")
            return next((" ".join(names) for names in OF_ONE_APP if name in names), file)

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Importing the test modules imports gradio."""
    with without_stubs():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        file = f"{item.path.parent.name}/{item.path.stem}"
        return LONGEST.index(file) if file in LONGEST else len(LONGEST)

    items.sort(key=turn)  # which leaves all else in its order


def pytest_configure(config: pytest.Config) -> None:
    config.stash[gc_collect_iterations_key] = 2  # at the end of each worker; of the usual five each takes a second


def pytest_collection_finish() -> None:
    """The garbage collector need not look through the imported modules again and again, nor as often as by default."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


WriteSplit = Callable[[Path, str, Sequence[bytes], Sequence[int], Sequence[str]], None]


@pytest.fixture(scope="session")
def write_split() -> WriteSplit:
    """Write one split of a dataset: `write_split(folder, split, encoded images, labels, class names)`."""

    def write(
        folder: Path, split: str, encoded: Sequence[bytes], labels: Sequence[int], classes: Sequence[str]
    ) -> None:
        features = {"img": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
        table = pa.table(
            {
                "img": pa.array(
                    [{"bytes": image, "path": None} for image in encoded],
                    pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
                ),
                "label": pa.array(labels, pa.int64()),
            }
        ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")

    return write
