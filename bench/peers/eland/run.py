"""The job by eland: the server counts both columns, and pandas decides."""

import argparse
import json

import eland
import pandas
from elasticsearch import Elasticsearch

# The most groups that a server returns by default.
GROUPS = 65_535


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--index", required=True)
    options = parser.parse_args()
    fields = ["netflow.ipv4_src_addr", "netflow.ipv4_dst_addr"]
    flows = eland.DataFrame(Elasticsearch(options.url, request_timeout=600), options.index, columns=fields)
    sides = [flows[field].value_counts(es_size=GROUPS) for field in fields]
    counts = pandas.DataFrame({"outgoing": sides[0], "incoming": sides[1]}).fillna(0).astype("int64")
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
