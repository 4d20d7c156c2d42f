"""What stands for a Docker daemon where there is none: it notes what is asked of it, over its HTTP interface.

It runs nothing. It keeps the states of containers, so that handles see what they did, and refuses what a daemon
would refuse: a verb that does not fit the state, two containers or networks of one name.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

# verb: the states that it fits, and the one it leads to
VERBS = {
    "start": ({"created", "exited"}, "running"),
    "pause": ({"running"}, "paused"),
    "unpause": ({"paused"}, "running"),
    "kill": ({"running", "paused"}, "exited"),
    "stop": ({"running", "exited"}, "exited"),
}


@dataclass
class Engine:
    """The daemon's world: everything by name. `asked` are the verbs in order, as `verb container`."""

    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    networks: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def look(self, parts: list[str]) -> tuple[int, Any]:
        """Answer a GET."""
        seen: Any = None
        match parts:
            case ["version"]:
                seen = {"ApiVersion": "1.50", "MinAPIVersion": "1.24"}
            case ["images", *name, "json"]:
                seen = {"Id": "/".join(name)}
            case ["containers", "json"]:
                seen = [{"Id": name} for name in self.states]
            case ["containers", name, "json"]:
                state, config = {"Status": self.states[name]}, {"Tty": True}
                seen = {"Id": name, "Name": f"/{name}", "State": state, "Config": config}
            case ["containers", _, "logs"]:
                seen = "no space left"
            case ["networks"]:
                seen = [{"Id": name, "Name": name} for name in self.networks]
            case ["networks", name]:
                seen = {"Id": name, "Name": name}
            case ["volumes"]:
                seen = {"Volumes": [{"Name": name} for name in self.volumes]}
        return (404, {"message": str(parts)}) if seen is None else (200, seen)

    def change(self, parts: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Answer a POST."""
        match parts:
            case ["containers", "create"]:
                return self._make(query["name"], body)
            case ["containers", name, verb] if self.states[name] in VERBS[verb][0]:
                self.asked.append(f"{verb} {name}")
                self.states[name] = VERBS[verb][1]
                return 204, None
            case ["networks", "create"] if body["Name"] not in self.networks:
                self.networks.add(body["Name"])
                return 201, {"Id": body["Name"]}
        return 409, {"message": f"{parts} does not fit"}

    def _make(self, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        if name in self.states or body["HostConfig"]["NetworkMode"] not in self.networks:
            return 409, {"message": f"{name} is there, or its network is not"}
        self.made[name], self.states[name] = body, "created"
        mounts = [bind.split(":")[0] for bind in body["HostConfig"].get("Binds", [])]
        self.volumes |= {mount for mount in mounts if not mount.startswith("/")}
        return 201, {"Id": name}

    def remove(self, kind: str, name: str) -> tuple[int, Any]:
        """Answer a DELETE."""
        if kind == "containers":
            del self.states[name]
        else:
            {"networks": self.networks, "volumes": self.volumes}[kind].remove(name)
        return 204, None


@contextmanager
def serving(engine: Engine) -> Iterator[str]:
    """Serve `engine` on loopback; the value of DOCKER_HOST."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*engine.look(self._parts()))

        def do_POST(self) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._send(*engine.change(self._parts(), query, json.loads(body or "null")))

        def do_DELETE(self) -> None:
            self._send(*engine.remove(*self._parts()))

        def _parts(self) -> list[str]:
            """The path without the version that begins it."""
            return [
                part for part in urlsplit(self.path).path.split("/") if part and not part.startswith("v1.")
            ]

        def _send(self, status: int, content: Any) -> None:
            sent = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()
