"""The job by `helpers.scan` of the official Python client, and pandas: what a script without Spark does."""

import argparse
import json

import pandas

QUERY = {
    "bool": {
        "should": [{"term": {"src_addr_space": "private"}}, {"term": {"dst_addr_space": "private"}}],
        "minimum_should_match": 1,
    }
}
FIELDS = ["netflow.ipv4_src_addr", "netflow.ipv4_dst_addr"]
# The most that servers allow by default, which is the fastest here.
PAGE = 10_000


def scan(options):
    """Returns an iterator over the documents."""
    body = {"query": QUERY, "_source": FIELDS}
    if options.kind == "elasticsearch":
        from elasticsearch import Elasticsearch, helpers

        client = Elasticsearch(options.url, request_timeout=600)
        return helpers.scan(client, index=options.index, query=body, size=PAGE)
    from opensearchpy import OpenSearch, helpers

    client = OpenSearch(options.url, timeout=600)
    return helpers.scan(client, index=options.index, query=body, size=PAGE)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--index", required=True)
    parser.add_argument("--kind", choices=["elasticsearch", "opensearch"], required=True)
    options = parser.parse_args()
    addresses = (hit["_source"]["netflow"] for hit in scan(options))
    flows = pandas.DataFrame(addresses, columns=["ipv4_src_addr", "ipv4_dst_addr"])
    sides = {"outgoing": flows["ipv4_src_addr"].value_counts(), "incoming": flows["ipv4_dst_addr"].value_counts()}
    counts = pandas.DataFrame(sides).fillna(0).astype("int64")
    rows = []
    for direction in ("outgoing", "incoming"):
        column = counts[direction]
        found = counts[column > column.mean() + 3 * column.std(ddof=0)]
        for address, outgoing, incoming in found.itertuples():
            rows.append(
                {"address": address, "direction": direction, "outgoing": int(outgoing), "incoming": int(incoming)}
            )
    print(json.dumps({"findings": rows}))


main()
