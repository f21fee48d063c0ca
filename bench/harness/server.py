"""A real server: its start and stop, its indices, and what it is.

Owns: scripts/server, requests to the server, and loading. Must not know: figures.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

from . import places, process

# The first instant of the generated flows, and the first after them. The golden flows end there too.
BEGIN, END = "2026-01-01T06:00:00Z", "2026-01-01T12:00:00Z"

# The heap of a server, unless the caller sets another. With less, pages of all columns trip the circuit breaker.
HEAP = os.environ.get("FLOWSIGMA_HEAP", "2g")


class Server:
    """A running server without credentials."""

    def __init__(self, name, url, folder):
        self.name, self.url, self.folder = name, url, folder
        self.kind = name.split("-")[0]

    @classmethod
    def start(cls, name):
        """Starts a fresh instance and returns it. Its data is deleted by stop()."""
        started = subprocess.run(
            [places.ROOT / "scripts" / "server", "start", name],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "FLOWSIGMA_HEAP": HEAP},
        )
        if started.returncode != 0:
            raise process.NotRun(f"scripts/server start {name} failed with exit code {started.returncode}")
        facts = dict(line.split("=", 1) for line in started.stdout.splitlines() if "=" in line)
        return cls(name, facts["URL"], facts["DIR"])

    def stop(self):
        """Stops the instance and deletes its data."""
        subprocess.run([places.ROOT / "scripts" / "server", "stop", self.folder], check=False)

    def request(self, method, path, body=None):
        """Sends a request and returns the JSON of its response."""
        data = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"}, method=method)
        # No proxy of the environment is between this process and a server on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=600) as response:
                return json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise process.Failed(f"{method} {path}: {error.code}: {error.read()[:300]}") from error

    def has(self, index):
        """Returns whether an index exists."""
        rows = self.request("GET", f"/_cat/indices/{index}*?format=json&h=index")
        return any(row["index"] == index for row in rows)

    def generate(self, index, documents, *more):
        """Creates an index of flows, unless it exists."""
        if self.has(index):
            return
        log(f"{self.name}: loading {documents:,} documents into {index}")
        process.run(
            [places.tool(), "generate", "--url", self.url, "--index", index, "--documents", str(documents), *more]
        )

    def load_golden(self, index):
        """Creates an index of the golden flows, and of those that must not count."""
        if self.has(index):
            return
        address = {"type": "ip"}
        properties = {
            "@timestamp": {"type": "date"},
            "src_addr_space": {"type": "keyword"},
            "dst_addr_space": {"type": "keyword"},
            "netflow": {"properties": {"ipv4_src_addr": address, "ipv4_dst_addr": address}},
        }
        settings = {"number_of_shards": 3, "number_of_replicas": 0}
        self.request("PUT", f"/{index}", {"settings": settings, "mappings": {"properties": properties}})
        lines = []
        for name in ["golden-flows.ndjson", "other-flows.ndjson"]:
            for line in (places.ROOT / "examples" / name).read_text().splitlines():
                lines += ['{"index": {}}', line]
        answer = self.request("POST", f"/{index}/_bulk?refresh=true", "\n".join(lines) + "\n")
        if answer["errors"]:
            raise process.Failed("a golden flow was refused")

    def columns(self, index):
        """Returns the names of all fields of an index."""

        def leaves(prefix, properties):
            for name, field in properties.items():
                if "properties" in field:
                    yield from leaves(f"{prefix}{name}.", field["properties"])
                else:
                    yield prefix + name

        mapping = next(iter(self.request("GET", f"/{index}/_mapping").values()))
        return list(leaves("", mapping["mappings"]["properties"]))


def log(text):
    """Prints a line about the progress of the run to stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
