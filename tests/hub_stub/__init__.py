"""A stand-in for the Hugging Face Hub on 127.0.0.1, which the real client talks to over HTTP.

    with HubStub() as hub:
        commit = hub.add_dataset("uoft-cs/cifar10", {"plain_text/train-00000-of-00001.parquet": content})
        hub.add_user("hf_anns_token", "ann")  # who may write to her own repositories
        monkeypatch.setenv("HF_ENDPOINT", hub.url)

It answers as the Hub does, errors included, as far as the client looks at the answers: addresses and headers are those
that huggingface_hub 2.4 requests and understands. Large files lie behind a redirect to another host, as on the Hub,
where the token must not arrive. What was asked for is in `requests`.

    store.py     what is there, and who may see and change it
    reads.py     the routes that read: search, info, tree, files
    writes.py    the routes that write: whoami, create, validate, upload, commit
    jobs.py      the service of jobs, each a process of this machine
    oauth.py     signing in
    spaces.py    what is otherwise with Spaces
    faults.py    errors, waits and connections that break half-way
    server.py    HubStub itself

A further service is a module with a function that adds its routes to the app, called in `HubStub.__init__`.
"""

from tests.hub_stub.server import HubStub, isolate_client, without_waiting
from tests.hub_stub.store import Content, Repository

__all__ = ["Content", "HubStub", "Repository", "isolate_client", "without_waiting"]
