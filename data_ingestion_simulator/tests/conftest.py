"""Asynchronous tests run on an event loop of their own, for a minute at most."""

import asyncio
import inspect

import pytest
from virtual_clock import VirtualLoop


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark of tests that run on the virtual clock."""
    config.addinivalue_line("markers", "virtual_clock: time passes when all tasks wait for it")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an asynchronous test."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    test = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    if pyfuncitem.get_closest_marker("virtual_clock"):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test)
    else:
        asyncio.run(asyncio.wait_for(test, 60))
    return True
