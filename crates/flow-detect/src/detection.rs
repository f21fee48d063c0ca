//! The result of a detection.
//!
//! Owns: reading findings and statistics from the rows of the statement. Must not know: how the rows are computed.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use serde::Serialize;

use crate::error::{Error, Result};

/// The findings and the statistics of a detection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detection {
    /// The findings: outgoing before incoming, then by round, then by distance from the mean, the farthest first, then by
    /// address.
    pub findings: Vec<Finding>,
    /// The statistics of each direction over all addresses.
    pub statistics: Statistics,
}

/// An address that stands out in one direction, with the numbers that show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The address.
    pub address: String,
    /// The direction in which it stands out.
    pub direction: Direction,
    /// The number of flows with the address as source.
    pub outgoing: u64,
    /// The number of flows with the address as destination.
    pub incoming: u64,
    /// The mean of the counts of this direction.
    pub mean: f64,
    /// The population standard deviation of the counts of this direction.
    pub stddev: f64,
    /// The distance from the mean in standard deviations. It is rounded: the decision itself is exact.
    pub z: f64,
    /// The round that found it: 1 if it stands out among all addresses, n + 1 if it stands out once the findings of n
    /// rounds are taken out of the counts of their direction. None if there is only one round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
}

/// The direction of the flows that are counted for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Flows with the address as source.
    Outgoing,
    /// Flows with the address as destination.
    Incoming,
}

impl Finding {
    /// Returns the number of flows in the direction in which the address stands out.
    pub fn count(&self) -> u64 {
        match self.direction {
            Direction::Outgoing => self.outgoing,
            Direction::Incoming => self.incoming,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outgoing => "outgoing",
            Self::Incoming => "incoming",
        })
    }
}

/// The statistics of both directions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// The statistics of the outgoing flows.
    pub outgoing: ColumnStatistics,
    /// The statistics of the incoming flows.
    pub incoming: ColumnStatistics,
}

/// The statistics of one direction over all addresses, including those with 0 flows in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ColumnStatistics {
    /// The number of addresses.
    pub count: u64,
    /// The mean of the counts. None if there are no addresses.
    pub mean: Option<f64>,
    /// The population standard deviation of the counts. None if there are no addresses.
    pub stddev: Option<f64>,
    /// The greatest count. None if there are no addresses.
    pub max: Option<u64>,
    /// The least count. None if there are no addresses.
    pub min: Option<u64>,
}

impl Detection {
    /// Adds the findings of another round, and puts all findings in order.
    pub fn add_findings(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
        self.findings.sort_by(|a, b| {
            a.direction
                .cmp(&b.direction)
                .then_with(|| a.round.cmp(&b.round))
                .then_with(|| b.z.total_cmp(&a.z))
                .then_with(|| a.address.cmp(&b.address))
        });
    }
}

/// Reads the rows of [`plan_sql`](crate::plan_sql), in any number of batches.
///
/// # Errors
///
/// If a column is missing, or has a type or value that the statement cannot produce.
pub fn read_detection(batches: &[RecordBatch]) -> Result<Detection> {
    let mut findings = Vec::new();
    let mut statistics = None;
    for batch in batches {
        if batch.num_rows() == 0 {
            continue;
        }
        let rows = Rows::try_new(batch)?;
        for row in 0..batch.num_rows() {
            rows.push_findings(row, &mut findings)?;
        }
        if statistics.is_none() {
            statistics = Some(Statistics {
                outgoing: rows.outgoing.statistics(&rows, 0)?,
                incoming: rows.incoming.statistics(&rows, 0)?,
            });
        }
    }
    let statistics = statistics.unwrap_or(Statistics {
        outgoing: ColumnStatistics::default(),
        incoming: ColumnStatistics::default(),
    });
    let mut detection = Detection { findings: Vec::new(), statistics };
    detection.add_findings(findings);
    Ok(detection)
}

/// The columns of one batch of the result.
struct Rows {
    address: Column,
    n: Column,
    outgoing: DirectionColumns,
    incoming: DirectionColumns,
}

struct DirectionColumns {
    direction: Direction,
    count: Column,
    stands_out: Column,
    mean: Column,
    stddev: Column,
    max: Column,
    min: Column,
    z: Column,
}

impl Rows {
    fn try_new(batch: &RecordBatch) -> Result<Self> {
        let int = |name| Column::try_new(batch, name, &DataType::Int64);
        let double = |name| Column::try_new(batch, name, &DataType::Float64);
        let boolean = |name| Column::try_new(batch, name, &DataType::Boolean);
        Ok(Self {
            address: Column::try_new(batch, "address", &DataType::Utf8)?,
            n: int("n")?,
            outgoing: DirectionColumns {
                direction: Direction::Outgoing,
                count: int("outgoing")?,
                stands_out: boolean("outgoing_stands_out")?,
                mean: double("outgoing_mean")?,
                stddev: double("outgoing_stddev")?,
                max: int("outgoing_max")?,
                min: int("outgoing_min")?,
                z: double("outgoing_z")?,
            },
            incoming: DirectionColumns {
                direction: Direction::Incoming,
                count: int("incoming")?,
                stands_out: boolean("incoming_stands_out")?,
                mean: double("incoming_mean")?,
                stddev: double("incoming_stddev")?,
                max: int("incoming_max")?,
                min: int("incoming_min")?,
                z: double("incoming_z")?,
            },
        })
    }

    fn push_findings(&self, row: usize, findings: &mut Vec<Finding>) -> Result<()> {
        for columns in [&self.outgoing, &self.incoming] {
            if !columns.stands_out.boolean(row)? {
                continue;
            }
            findings.push(Finding {
                address: self.address.text(row)?.to_owned(),
                direction: columns.direction,
                outgoing: self.outgoing.count.unsigned(row)?,
                incoming: self.incoming.count.unsigned(row)?,
                mean: columns.mean.double(row)?,
                stddev: columns.stddev.double(row)?,
                z: columns.z.double(row)?,
                round: None,
            });
        }
        Ok(())
    }
}

impl DirectionColumns {
    /// Reads the statistics from any row: each row has the totals.
    fn statistics(&self, rows: &Rows, row: usize) -> Result<ColumnStatistics> {
        Ok(ColumnStatistics {
            count: rows.n.unsigned(row)?,
            mean: Some(self.mean.double(row)?),
            stddev: Some(self.stddev.double(row)?),
            max: Some(self.max.unsigned(row)?),
            min: Some(self.min.unsigned(row)?),
        })
    }
}

/// A column of the result, cast to the type that its reader expects.
struct Column {
    name: &'static str,
    values: ArrayRef,
}

impl Column {
    fn try_new(batch: &RecordBatch, name: &'static str, data_type: &DataType) -> Result<Self> {
        let Some(values) = batch.column_by_name(name) else {
            return Err(Error::Response { column: name, problem: "it is missing".to_owned() });
        };
        // An engine may return another string type; nothing else is converted.
        let is_text = matches!(values.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        if values.data_type() != data_type && !(is_text && data_type == &DataType::Utf8) {
            let problem = format!("it has type {}, not {data_type}", values.data_type());
            return Err(Error::Response { column: name, problem });
        }
        let values = cast(values, data_type).map_err(|source| Error::Convert { column: name, source })?;
        Ok(Self { name, values })
    }

    fn check(&self, row: usize) -> Result<()> {
        if self.values.is_null(row) {
            return Err(Error::Response { column: self.name, problem: format!("row {row} is null") });
        }
        Ok(())
    }

    fn text(&self, row: usize) -> Result<&str> {
        self.check(row)?;
        Ok(self.values.as_string::<i32>().value(row))
    }

    fn boolean(&self, row: usize) -> Result<bool> {
        self.check(row)?;
        Ok(self.values.as_boolean().value(row))
    }

    fn double(&self, row: usize) -> Result<f64> {
        self.check(row)?;
        Ok(self.values.as_primitive::<Float64Type>().value(row))
    }

    fn unsigned(&self, row: usize) -> Result<u64> {
        self.check(row)?;
        let value = self.values.as_primitive::<Int64Type>().value(row);
        u64::try_from(value).map_err(|_| Error::Response {
            column: self.name,
            problem: format!("row {row} is {value}, and a count is never negative"),
        })
    }
}
