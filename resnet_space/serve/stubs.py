"""Import gradio quickly: without its type stubs, a third of the time that its import takes."""

import inspect
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def without_stubs() -> Generator[None]:
    """In this block, gradio writes no stub file beside its components, as it else does whenever it is imported.

    It parses the source of each component twice for that and compiles three templates. It leaves a component out whose
    source file cannot be told. All authorities' certificates are read once, not for each HTTP client that it makes.
    """
    real, create_context = inspect.getfile, ssl.create_default_context

    def getfile(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError("Not asked for while gradio is imported.")
        return real(thing)

    vars(inspect)["getfile"], vars(ssl)["create_default_context"] = getfile, cache(create_context)
    try:
        yield
    finally:
        vars(inspect)["getfile"], vars(ssl)["create_default_context"] = real, create_context
