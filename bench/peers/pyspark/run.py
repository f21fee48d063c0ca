"""The notebook's steps on PySpark and ES-Hadoop: the peer that Flowsigma replaces.

`newAPIHadoopRDD`, two `groupBy().count()`, `join(…, 'full_outer')`, `stats()`, `filter`. The notebook's sample of 1% is
left out, so that every document is read.
"""

import argparse
import json
from urllib.parse import urlparse

from pyspark.sql import Row, SparkSession

QUERY = {
    "query": {
        "bool": {
            "should": [{"term": {"src_addr_space": "private"}}, {"term": {"dst_addr_space": "private"}}],
            "minimum_should_match": 1,
        }
    }
}
FIELDS = "netflow.ipv4_src_addr,netflow.ipv4_dst_addr"
# The input format of each product, the class of its documents, and the prefix of its settings.
CLASSES = {
    "elasticsearch": (
        "org.elasticsearch.hadoop.mr.EsInputFormat",
        "org.elasticsearch.hadoop.mr.LinkedMapWritable",
        "es",
    ),
    "opensearch": (
        "org.opensearch.hadoop.mr.OpenSearchInputFormat",
        "org.opensearch.hadoop.mr.LinkedMapWritable",
        "opensearch",
    ),
}


def settings(prefix, url, index):
    server = urlparse(url)
    return {
        f"{prefix}.nodes": server.hostname,
        f"{prefix}.port": str(server.port),
        f"{prefix}.nodes.wan.only": "true",
        f"{prefix}.resource": index,
        f"{prefix}.query": json.dumps(QUERY),
        f"{prefix}.read.field.include": FIELDS,
    }


def outliers(counts, column):
    stats = counts.rdd.map(lambda row: row[column]).stats()
    limit = stats.mean() + 3 * stats.stdev()
    return counts.filter(counts[column] > limit).collect()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--index", required=True)
    parser.add_argument("--jar", required=True)
    parser.add_argument("--kind", choices=sorted(CLASSES), required=True)
    options = parser.parse_args()
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", options.jar)
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    input_format, document, prefix = CLASSES[options.kind]
    rdd = spark.sparkContext.newAPIHadoopRDD(
        inputFormatClass=input_format,
        keyClass="org.apache.hadoop.io.NullWritable",
        valueClass=document,
        conf=settings(prefix, options.url, options.index),
    )
    flows = rdd.map(
        lambda pair: Row(source=pair[1]["netflow"]["ipv4_src_addr"], destination=pair[1]["netflow"]["ipv4_dst_addr"])
    ).toDF()
    outgoing = flows.groupBy("source").count().withColumnRenamed("count", "outgoing")
    incoming = flows.groupBy("destination").count().withColumnRenamed("count", "incoming")
    joined = outgoing.join(incoming, outgoing.source == incoming.destination, "full_outer").fillna(0)
    counts = joined.selectExpr("coalesce(source, destination) AS address", "outgoing", "incoming")
    rows = [
        {"address": row.address, "direction": direction, "outgoing": row.outgoing, "incoming": row.incoming}
        for direction in ("outgoing", "incoming")
        for row in outliers(counts, direction)
    ]
    print(json.dumps({"findings": rows}))
    # The JVM is a child. Its CPU time counts once it has been waited for.
    gateway = spark.sparkContext._gateway
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


main()
