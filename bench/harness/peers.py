"""The peers: other programs that do the same work.

Owns: how each peer is built or installed, and its command. Must not know: the code of a peer.

A peer that cannot be built, installed or run is a figure that is not run. It never fails the run.
"""

import sys
from dataclasses import dataclass

from . import builds, places, process
from .figures import Figure, counts, findings
from .server import log

PEERS = places.BENCH / "peers"


@dataclass(frozen=True)
class Python:
    """A peer in Python, with an environment of its own."""

    name: str

    def install(self):
        """Returns its interpreter. Installs the pinned packages on the first call.

        Raises NotRun if a package cannot be installed.
        """
        folder = places.WORK / "python" / self.name
        requirements = PEERS / self.name / "requirements.txt"
        done = folder / "installed.txt"
        if not done.exists() or done.read_text() != requirements.read_text():
            log(f"installing the packages of {self.name}")
            process.run([sys.executable, "-m", "venv", "--clear", folder])
            process.run([folder / "bin" / "pip", "install", "--quiet", "-r", requirements])
            done.write_text(requirements.read_text())
        return folder / "bin" / "python"


def python(name, *more):
    """Returns the command of a peer in Python."""

    def command(context):
        interpreter = builds.once(context, name, Python(name).install)
        arguments = [item(context) if callable(item) else item for item in more]
        return [interpreter, PEERS / name / "run.py", "--url", context.server.url, "--index", context.index, *arguments]

    return command


def hadoop_jar(context):
    """Returns the jar of ES-Hadoop for the server, as an argument."""
    options = context.options
    jar = options.es_hadoop_jar if context.server.kind == "elasticsearch" else options.opensearch_hadoop_jar
    if jar is None:
        option = "--es-hadoop-jar" if context.server.kind == "elasticsearch" else "--opensearch-hadoop-jar"
        raise process.NotRun(f"no jar is given by {option}")
    if not jar.exists():
        raise process.NotRun(f"no file {jar}")
    return f"--jar={jar.resolve()}"


def kind(context):
    return f"--kind={context.server.kind}"


def pyspark(context):
    jar = hadoop_jar(context)
    return python("pyspark", jar, kind)(context)


def datafusion_opensearch(job):
    """Returns the command of a statement of datafusion-opensearch."""

    def command(context):
        if context.server.kind != "opensearch":
            raise process.NotRun("it reads OpenSearch only")
        program = builds.program(context, "datafusion-opensearch", PEERS / "datafusion-opensearch")
        return [program, context.server.url, context.flat, job]

    return command


def eland(context):
    if context.server.kind != "elasticsearch":
        raise process.NotRun("it reads Elasticsearch only")
    return python("eland")(context)


def last_findings(output):
    """Returns the findings of the last line, because a peer may print more before it."""
    return findings(output.splitlines()[-1])


FIGURES = [
    Figure(
        "pyspark",
        "peer: the notebook's steps on PySpark and ES-Hadoop",
        pyspark,
        last_findings,
        "findings",
        "bound-two",
    ),
    Figure(
        "datafusion-opensearch-count",
        "peer: `datafusion-opensearch` 0.2.0, `count()` of two columns",
        datafusion_opensearch("count"),
        counts,
        "documents",
        "bound-two",
    ),
    Figure(
        "datafusion-opensearch-job",
        "peer: `datafusion-opensearch` 0.2.0, the whole job in SQL",
        datafusion_opensearch("detect"),
        last_findings,
        "findings",
        "bound-two",
    ),
    Figure(
        "helpers-scan",
        "peer: `helpers.scan` of the official client, and pandas",
        python("helpers-scan", kind),
        last_findings,
        "findings",
        "bound-two",
    ),
    Figure("eland", "peer: eland, `value_counts` of both columns", eland, last_findings, "findings", "bound-composite"),
]
