"""The console of `lab.py up`: services are killed and started, and faults switched, by typing.

A fault proxy stands between the simulator and the API, and between the dashboard and the API.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

from learn.control import control
from learn.keyboard import Keyboard, is_terminal
from learn.proxy import KINDS, Proxy
from tools.machine import LabError
from tools.processes import Stopped, System, end, say, stop_requested

T = TypeVar("T")
ADDRESS_OF_API = {"simulator": "API_BASE_URL", "dashboard": "API_URL"}
HELP = """\
kill api | simulator | dashboard      end a service at once (SIGKILL)
start api | simulator | dashboard     start it again
fault simulator | dashboard KIND 30%  disturb its requests to the API; 0% ends it
faults                                what is on, and how often it has struck
faults off                            end all faults
quit                                  stop everything, as Ctrl-C does
The kinds of faults:"""


def new_system(all_or_nothing: bool) -> System:
    """Return the system with a console, if there is a terminal and nothing else is asked for."""
    return System() if all_or_nothing or not is_terminal() else Console()


class Console(System):
    """Services that are started with a terminal. One that ends later does not stop the others."""

    def __init__(self) -> None:
        super().__init__()
        self._started: dict[str, tuple[str, str, tuple[str, ...], dict[str, str]]] = {}
        self._keyboard: Keyboard | None = None  # until all services are started
        self._waits = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._proxies = {name: Proxy(name, []) for name in ADDRESS_OF_API}
        self._faults_url = self._run(control(list(self._proxies.values())))
        self._api: tuple[str, int] | None = None
        self._open = False  # do the proxies accept connections?

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def start(self, name: str, folder: str, python: str, *options: str, **variables: str) -> None:
        """Start a service; its requests to the API pass a fault proxy."""
        if variable := ADDRESS_OF_API.get(name):
            url = urlsplit(variables[variable])
            self._api = "127.0.0.1", url.port or 80
            proxy = self._proxies[name]
            proxy.targets = ["{}:{}".format(*self._api)]
            if not proxy.port:
                self._run(proxy.open())
                self._open = True
            variables[variable] = f"http://localhost:{proxy.port}{url.path}"
        if name == "dashboard":
            variables["FAULTS_URL"] = self._faults_url
        self._started[name] = folder, python, options, variables
        super().start(name, folder, python, *options, **variables)

    def wait_for(self, name: str, url: str) -> None:
        """Return when a service responds; until then one that ends stops all, as without us."""
        self._waits = True
        super().wait_for(name, url)
        self._waits = False

    def pause(self, seconds: float) -> None:
        """Wait, and do what was typed. Raises Stopped; while services start, also LabError."""
        if self._waits:
            super().pause(seconds)
            return
        if self._keyboard is None:
            self._keyboard = Keyboard()
            ways = [f"{name} at {proxy.port}" for name, proxy in self._proxies.items()]
            say(f"Fault proxies in front of the API, for: {', '.join(ways)}. Type help")
        if stop_requested.wait(seconds):
            raise Stopped
        for name, (process, _) in list(self._running.items()):
            if process.poll() is not None:
                end(self._running.pop(name)[0])
                say(f"{name} ended with exit code {process.returncode}; the others go on")
                if not (name == "simulator" and process.returncode == 0):
                    say(f"`start {name}` starts it again")
        self._follow_api()
        if line := self._keyboard.typed():
            try:
                self._do(line.split())
            except LabError as error:
                say(str(error))

    def _follow_api(self) -> None:
        """Let the proxies refuse connections while the API does."""
        with socket.socket() as probe:
            is_open = self._api is not None and probe.connect_ex(self._api) == 0
        if is_open != self._open:
            self._open = is_open
            for proxy in self._proxies.values():
                with contextlib.suppress(OSError):
                    self._run(proxy.open() if is_open else proxy.close())

    def _do(self, words: list[str]) -> None:
        match words:
            case ["help"]:
                for line in HELP.splitlines():
                    say(line)
                for kind, meaning in KINDS.items():
                    say(f"  {kind:<15}{meaning}")
                say(f"GET, PUT SERVICE/KIND?share=0.3, DELETE, for scripts: {self._faults_url}")
            case ["quit"]:
                raise Stopped
            case ["kill", name]:
                self._kill(name)
            case ["start", name]:
                self._start_again(name)
            case ["faults"]:
                self._list()
            case ["faults", "off"]:
                for proxy in self._proxies.values():
                    self._loop.call_soon_threadsafe(proxy.off)
                say("all faults are off")
            case ["fault", service, kind, share]:
                self._fault(service, kind, share)
            case _:
                raise LabError(f"unknown command {' '.join(words)!r}: type help")

    def _kill(self, name: str) -> None:
        if name not in self._running:
            raise LabError(f"{self._known(name)} is not running")
        self._running[name][0].kill()

    def _start_again(self, name: str) -> None:
        if self._known(name) in self._running:
            raise LabError(f"{name} is running already")
        folder, python, options, variables = self._started[name]
        super().start(name, folder, python, *options, **variables)
        say(f"{name} is starting")

    def _known(self, name: str) -> str:
        if name not in self._started:
            raise LabError(f"there is no service {name!r}: {', '.join(self._started)}")
        return name

    def _fault(self, service: str, kind: str, share: str) -> None:
        number = share.removesuffix("%")
        if service not in self._proxies:
            raise LabError(f"faults disturb the requests of {' or '.join(self._proxies)}")
        if kind not in KINDS or not number.isdecimal() or int(number) > 100:
            raise LabError(f"write: fault {service} KIND 30%; kinds: {', '.join(KINDS)}")
        self._proxies[service].set(kind, int(number) / 100)
        self._list()

    def _list(self) -> None:
        faults: list[dict[str, Any]] = [f for p in self._proxies.values() for f in p.faults()]
        for fault in faults:
            share = f"{fault['share']:.0%} of the requests of the {fault['service']}"
            say(f"fault {fault['kind']}: {share}, struck {fault['strikes']} times")
        if not faults:
            say("no fault is on")
