"""The figures of Flowsigma and of the bounds.

Owns: the command of each figure, and what its answer must be. Must not know: how often it runs, or the report.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from . import places, process, server

SOURCE, DESTINATION = "netflow.ipv4_src_addr", "netflow.ipv4_dst_addr"
# The notebook's condition. Every generated document has a private side, so this finds all of them.
QUERY = json.dumps(
    {
        "bool": {
            "should": [{"term": {"src_addr_space": "private"}}, {"term": {"dst_addr_space": "private"}}],
            "minimum_should_match": 1,
        }
    }
)
# The table option that says whether the server counts: always or never.
AGGREGATE = "aggregate"


@dataclass
class Context:
    """The server, data and programs of a run."""

    server: server.Server
    programs: places.Programs
    documents: int
    has_aggregate: bool = False
    cluster: object = None
    options: object = None
    index: str = "bench-flows"
    flat: str = "bench-flat"
    golden: str = "bench-golden"
    # What was built or installed for this server's figures, by its name.
    built: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A program to measure."""

    name: str
    title: str
    # Returns the arguments, or raises NotRun.
    command: Callable[[Context], list]
    # Turns stdout into a value. Figures with the same `same` must have the same value, if it is not None.
    answer: Callable[[str], object] = lambda output: None
    same: str | None = None
    # The figure whose median this one's is divided by.
    bound: str | None = None
    # Whether the figure reads or counts the documents of the index, so that documents a second mean something.
    counts: bool = True
    # Whether it runs on the cluster, whose members' CPU time then counts.
    on_cluster: bool = False
    # Turns stdout into the seconds of parts that are figures themselves.
    parts: Callable[[str], dict] | None = None


def probe_aggregate(programs, url, index):
    """Returns whether `flowsigma` has the table option that chooses between scan and aggregation."""
    statement = table(url_connection(), index, {AGGREGATE: "never"})
    try:
        process.measure([programs.flowsigma, "sql", "--url", url, "-c", statement], 60)
    except process.Failed as error:
        if "unknown table option" in str(error):
            return False
        raise
    return True


def url_connection():
    """Returns the name of the connection that `--url` defines."""
    return "url"


def table(connection, index, options):
    """Returns the statement that creates the table `flows`."""
    pairs = ", ".join(f"'{key}' '{value}'" for key, value in options.items())
    suffix = f" OPTIONS ({pairs})" if pairs else ""
    return (
        f"CREATE EXTERNAL TABLE flows STORED AS ELASTICSEARCH LOCATION 'elasticsearch://{connection}/{index}'{suffix}"
    )


def by(context, way):
    """Returns the table options for counting by `scan` or by `aggregate`."""
    if way == "aggregate" and not context.has_aggregate:
        raise process.NotRun(f"this flowsigma has no table option {AGGREGATE}")
    if not context.has_aggregate:
        return {}
    return {AGGREGATE: "always" if way == "aggregate" else "never"}


def sql(context, statement, options, on_cluster=False):
    """Returns the arguments of `flowsigma sql` with a table over the index."""
    flowsigma = [context.programs.flowsigma, "sql", "--format", "json"]
    if on_cluster:
        flowsigma += ["--config", context.cluster.config, "--scheduler", context.cluster.url]
    else:
        flowsigma += ["--url", context.server.url]
    created = table("bench" if on_cluster else url_connection(), context.index, options)
    return [*flowsigma, "-c", f"{created}; {statement}"]


def detect(context, window, way, index=None, on_cluster=False):
    """Returns the arguments of `flowsigma detect` over the index."""
    flowsigma = [context.programs.flowsigma, "detect", "--format", "json", "--index", index or context.index]
    if on_cluster:
        connection = ["--config", context.cluster.config, "--scheduler", context.cluster.url, "--connection", "bench"]
    else:
        connection = ["--url", context.server.url]
    options = [f"--option={key}={value}" for key, value in by(context, way).items()]
    return [*flowsigma, *connection, *options, *window]


def with_query(_):
    return ["--query", QUERY]


def with_since(_):
    return ["--since", server.BEGIN, "--until", server.END]


def quoted(column):
    return '"' + column + '"'


def count_two(context, way="scan", on_cluster=False):
    statement = f"SELECT count({quoted(SOURCE)}) AS a, count({quoted(DESTINATION)}) AS b FROM flows"
    return sql(context, statement, by(context, way), on_cluster)


def max_all(context):
    columns = [f"max({quoted(name)}) AS c{i}" for i, name in enumerate(context.server.columns(context.index))]
    return sql(context, f"SELECT {', '.join(columns)} FROM flows", by(context, "scan"))


def select_one(context):
    return [context.programs.flowsigma, "sql", "--format", "json", "-c", "SELECT 1 AS a"]


def golden(context):
    window = ["--since", "1h", "--until", server.END, "--query", QUERY]
    return detect(context, window, "scan", index=context.golden)


def engine(context):
    """Returns the arguments of plain DataFusion over the table of datafusion-elasticsearch."""
    program = context.programs.engine
    if not program.exists():
        raise process.NotRun(f"no {program.name} beside {context.programs.flowsigma.name}")
    statement = f"SELECT count({quoted(SOURCE)}) AS a, count({quoted(DESTINATION)}) AS b FROM flows"
    options = [f"{key}={value}" for key, value in by(context, "scan").items()]
    return [program, context.server.url, context.index, statement, *options]


def bound(*arguments):
    """Returns the command of a bound."""
    return lambda context: [
        places.tool(),
        arguments[0],
        "--url",
        context.server.url,
        "--index",
        context.index,
        *arguments[1:],
    ]


def aggregate_parts(output):
    """Returns the seconds of both ways to count by aggregations."""
    ways = json.loads(output)
    return {f"bound-{way}": ways[way]["seconds"] for way in ("terms", "composite")}


def documents_read(output):
    """Returns the number of documents of a bound."""
    return json.loads(output)["documents"]


def counts(output):
    """Returns the number of documents if both columns have one value in each."""
    (row,) = [json.loads(line) for line in output.splitlines() if line.startswith("[")][0]
    return row["a"] if row["a"] == row["b"] else (row["a"], row["b"])


def findings(output):
    """Returns the address, direction and counts of each finding, in order."""
    rows = json.loads(output[output.index("{") :])["findings"]
    return sorted((row["address"], row["direction"], row["outgoing"], row["incoming"]) for row in rows)


def golden_findings(output):
    """Returns the findings, and fails unless they are those of the notebook."""
    found = findings(output)
    expected = [("10.54.0.162", "incoming", 0, 1253), ("20.54.0.162", "outgoing", 1253, 0)]
    if found != expected:
        raise process.Failed(f"the findings of the golden flows are wrong: {found}")
    return found


FIGURES = [
    Figure("bound-two", "raw reader, two columns", bound("bound"), documents_read, "documents"),
    Figure(
        "bound-sorted",
        "raw reader, two columns as sort values",
        bound("bound", "--sorted"),
        documents_read,
        "documents",
        "bound-two",
    ),
    Figure("bound-all", "raw reader, all columns", bound("bound", "--columns", "all"), documents_read, "documents"),
    Figure(
        "bound-aggregate",
        "raw aggregations of both addresses, in both ways",
        bound("aggregate-bound"),
        parts=aggregate_parts,
    ),
    Figure("count", "`sql`: `count()` of two columns by scan", count_two, counts, "documents", "bound-two"),
    Figure(
        "count-aggregate",
        "`sql`: `count()` of two columns by aggregation",
        lambda c: count_two(c, "aggregate"),
        counts,
        "documents",
        "bound-two",
    ),
    Figure("max-all", "`sql`: `max()` of all columns by scan", max_all, bound="bound-all"),
    Figure(
        "detect-query",
        "`detect --query` by scan",
        lambda c: detect(c, with_query(c), "scan"),
        findings,
        "findings",
        "bound-two",
    ),
    Figure(
        "detect-since",
        "`detect --since` by scan",
        lambda c: detect(c, with_since(c), "scan"),
        findings,
        "findings",
        "bound-two",
    ),
    Figure(
        "detect-query-aggregate",
        "`detect --query` by aggregation",
        lambda c: detect(c, with_query(c), "aggregate"),
        findings,
        "findings",
        "bound-two",
    ),
    Figure(
        "detect-since-aggregate",
        "`detect --since` by aggregation",
        lambda c: detect(c, with_since(c), "aggregate"),
        findings,
        "findings",
        "bound-two",
    ),
    Figure("select-1", "`sql`: `SELECT 1`", select_one, counts=False),
    Figure("golden", "`detect` of the golden flows, 1,430 of 1,730 documents", golden, golden_findings, counts=False),
    Figure("engine", "plain DataFusion: `count()` of two columns", engine, counts, "documents", "bound-two"),
    Figure(
        "cluster-count",
        "`sql`: `count()` of two columns by scan on two executors",
        lambda c: count_two(c, on_cluster=True),
        counts,
        "documents",
        "bound-two",
        on_cluster=True,
    ),
    Figure(
        "cluster-detect",
        "`detect --query` by scan on two executors",
        lambda c: detect(c, with_query(c), "scan", on_cluster=True),
        findings,
        "findings",
        "bound-two",
        on_cluster=True,
    ),
]
