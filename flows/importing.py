"""Makes importing many modules cheaper."""

import gc
import os
from collections.abc import Generator
from contextlib import contextmanager

from flows.termination_signals import not_ignored

PLUGINS = "PYDANTIC_DISABLE_PLUGINS"


@contextmanager
def importing() -> Generator[None]:
    """Import in the block without garbage collection, and without pydantic's search for plugins.

    Prefect's modules make half a million objects, none of which is garbage. Looking for some again and again took 0.25
    of 1.4 seconds; what was imported is not looked at later either. With the first model, pydantic reads what each
    installed package says of plugins, which coordinator does not use. A signal in the block is raised at its end.
    """
    before = os.environ.get(PLUGINS)
    os.environ[PLUGINS] = "__all__"
    gc.disable()
    try:
        with not_ignored():
            yield
    finally:
        gc.freeze()
        gc.enable()
        os.environ.pop(PLUGINS)
        if before is not None:
            os.environ[PLUGINS] = before
