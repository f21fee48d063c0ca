//! Two statements over a flat index through the crate `datafusion-opensearch`.
//!
//! Owns: the statements, and their answer as JSON. Must not know: Flowsigma.
//!
//! The index has the keywords `src` and `dst`, because the crate has no columns for the fields of objects.

use anyhow::{Context, Result, bail};
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use datafusion_opensearch::OpenSearchTableProviderFactory;
use serde_json::{Value, json};

const DETECT: &str = "
WITH counts AS (
  SELECT coalesce(o.address, i.address) AS address, coalesce(outgoing, 0) AS outgoing, coalesce(incoming, 0) AS incoming
  FROM (SELECT src AS address, count(*) AS outgoing FROM flows GROUP BY src) o
  FULL OUTER JOIN (SELECT dst AS address, count(*) AS incoming FROM flows GROUP BY dst) i ON o.address = i.address
),
limits AS (
  SELECT
    avg(outgoing) + 3 * stddev_pop(outgoing) AS most_outgoing,
    avg(incoming) + 3 * stddev_pop(incoming) AS most_incoming
  FROM counts
)
SELECT CAST(address AS VARCHAR) AS address, 'outgoing' AS direction, outgoing, incoming
FROM counts, limits WHERE outgoing > most_outgoing
UNION ALL
SELECT CAST(address AS VARCHAR), 'incoming', outgoing, incoming FROM counts, limits WHERE incoming > most_incoming";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, index, job] = arguments.as_slice() else {
        bail!("expected the URL of a server, an index, and count or detect");
    };
    let context = SessionContext::new();
    OpenSearchTableProviderFactory::new().register(&context);
    // As many partitions as the index has shards, and the largest page: what is fastest here.
    let create = format!(
        "CREATE EXTERNAL TABLE flows STORED AS OPENSEARCH LOCATION '{url}/{index}' \
         OPTIONS ('partitions' '3', 'page_size' '10000')"
    );
    context.sql(&create).await?.collect().await?;
    let output = match job.as_str() {
        "count" => {
            let rows =
                context.sql("SELECT count(src) AS a, count(dst) AS b FROM flows").await?.collect().await?;
            let row = rows.first().context("no row")?;
            json!([{ "a": integer(row, 0, 0), "b": integer(row, 1, 0) }])
        }
        "detect" => json!({ "findings": findings(&context.sql(DETECT).await?.collect().await?)? }),
        other => bail!("{other:?} is neither count nor detect"),
    };
    println!("{output}");
    Ok(())
}

fn integer(batch: &RecordBatch, column: usize, row: usize) -> i64 {
    batch.column(column).as_primitive::<Int64Type>().value(row)
}

fn findings(batches: &[RecordBatch]) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for batch in batches {
        let text = |column: usize, row: usize| {
            datafusion::arrow::util::display::array_value_to_string(batch.column(column), row)
        };
        for row in 0..batch.num_rows() {
            found.push(json!({
                "address": text(0, row)?,
                "direction": text(1, row)?,
                "outgoing": integer(batch, 2, row),
                "incoming": integer(batch, 3, row),
            }));
        }
    }
    Ok(found)
}
