//! The serialized form of slices, and of the point in time (PIT) that each reads.
//!
//! Owns: their names and values, in a table and in the rows below a scan. Must not know: columns.
//!
//! On Elasticsearch the id of a PIT takes several hundred bytes for each of its shards. So a plan has each id
//! once, and a slice refers to it by number. Below a scan each row is a slice. The row of the first slice that
//! reads a PIT also has its id, in each partition: a task is sent only the ids that its own partitions need.

use super::Invalid;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use elastic_client::{Cut as DomainCut, Slice as Domain, SliceSource, Tiebreaker as DomainTiebreaker};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

const SLICE: &str = "slice";
const CONTEXT: &str = "context";

/// The slices of a table, in format 2.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slices {
    /// The ids of the PITs.
    contexts: Vec<String>,
    slices: Vec<Slice>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slice {
    ordinal: u32,
    of: u32,
    index: String,
    source: Source,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cut: Option<Cut>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Source {
    /// The index of the PIT in `contexts`.
    Pit {
        context: usize,
        sort: Sort,
    },
    Scroll,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sort {
    ShardDoc,
    Doc,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    id: u32,
    max: u32,
}

/// A PIT in the row of the first slice that reads it. Its number makes a row that was separated from its PIT an
/// error.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    number: usize,
    id: String,
}

/// A slice of format 1.
#[derive(Deserialize)]
pub(super) struct SliceV1 {
    ordinal: u32,
    of: u32,
    index: String,
    source: SourceV1,
    cut: Option<Cut>,
    filter: Option<Value>,
}

#[derive(Deserialize)]
enum SourceV1 {
    Pit { id: String, sort: SortV1 },
    Scroll,
}

#[derive(Deserialize)]
enum SortV1 {
    ShardDoc,
    Doc,
}

/// Numbers PITs in the order of the first slice that reads them.
#[derive(Default)]
struct Contexts<'a> {
    numbers: HashMap<&'a str, usize>,
    /// The ids by number.
    ids: Vec<&'a str>,
}

impl<'a> Contexts<'a> {
    /// Returns the number of a PIT.
    fn number(&mut self, id: &'a str) -> usize {
        *self.numbers.entry(id).or_insert_with(|| {
            self.ids.push(id);
            self.ids.len() - 1
        })
    }

    fn slice(&mut self, slice: &'a Domain) -> Slice {
        let Domain { ordinal, of, index, source, cut, filter } = slice;
        let source = match source {
            SliceSource::Pit { id, tiebreaker } => Source::Pit {
                context: self.number(id),
                sort: match tiebreaker {
                    DomainTiebreaker::ShardDoc => Sort::ShardDoc,
                    DomainTiebreaker::Doc => Sort::Doc,
                },
            },
            SliceSource::Scroll => Source::Scroll,
        };
        Slice {
            ordinal: *ordinal,
            of: *of,
            index: index.clone(),
            source,
            cut: cut.map(|DomainCut { id, max }| Cut { id, max }),
            filter: filter.clone(),
        }
    }
}

impl Slices {
    pub(super) fn of(slices: &[Domain]) -> Self {
        let mut contexts = Contexts::default();
        let slices = slices.iter().map(|slice| contexts.slice(slice)).collect();
        Self { contexts: contexts.ids.into_iter().map(str::to_owned).collect(), slices }
    }

    pub(super) fn into_domain(self) -> Result<Vec<Domain>, Invalid> {
        let contexts = self.contexts.into_iter().map(Arc::from).enumerate().collect();
        self.slices.into_iter().map(|slice| slice.into_domain(&contexts)).collect()
    }
}

impl Slice {
    fn into_domain(self, contexts: &HashMap<usize, Arc<str>>) -> Result<Domain, Invalid> {
        let source = match self.source {
            Source::Pit { context, sort } => {
                let Some(id) = contexts.get(&context) else {
                    let slice = self.ordinal;
                    return Err(format!("slice {slice} is of context {context}, which did not arrive").into());
                };
                let tiebreaker = match sort {
                    Sort::ShardDoc => DomainTiebreaker::ShardDoc,
                    Sort::Doc => DomainTiebreaker::Doc,
                };
                SliceSource::Pit { id: Arc::clone(id), tiebreaker }
            }
            Source::Scroll => SliceSource::Scroll,
        };
        Ok(Domain {
            ordinal: self.ordinal,
            of: self.of,
            index: self.index,
            source,
            cut: self.cut.map(|Cut { id, max }| DomainCut { id, max }),
            filter: self.filter,
        })
    }
}

/// Converts slices of format 1. The slices of one PIT share one copy of its id.
pub(super) fn of_v1(slices: Vec<SliceV1>) -> Vec<Domain> {
    let mut ids: HashMap<String, Arc<str>> = HashMap::new();
    let mut shared = |id: String| Arc::clone(ids.entry(id).or_insert_with_key(|id| Arc::from(id.as_str())));
    let slices = slices.into_iter().map(|slice| Domain {
        ordinal: slice.ordinal,
        of: slice.of,
        index: slice.index,
        source: match slice.source {
            SourceV1::Pit { id, sort } => SliceSource::Pit {
                id: shared(id),
                tiebreaker: match sort {
                    SortV1::ShardDoc => DomainTiebreaker::ShardDoc,
                    SortV1::Doc => DomainTiebreaker::Doc,
                },
            },
            SourceV1::Scroll => SliceSource::Scroll,
        },
        cut: slice.cut.map(|Cut { id, max }| DomainCut { id, max }),
        filter: slice.filter,
    });
    slices.collect()
}

/// Returns the schema of the rows below a scan. `slice` is the JSON text of a slice. `context` is the JSON text of
/// a PIT that no earlier row has, or null.
pub fn schema() -> SchemaRef {
    let slice = Field::new(SLICE, DataType::Utf8, false);
    Arc::new(Schema::new(vec![slice, Field::new(CONTEXT, DataType::Utf8, true)]))
}

/// Serializes the slices of a partition to the rows below a scan, with [`schema`].
///
/// # Errors
///
/// Returns an error if a slice cannot be written as JSON.
pub fn to_batch(slices: &[Domain]) -> Result<RecordBatch, Invalid> {
    let mut contexts = Contexts::default();
    let mut texts = Vec::with_capacity(slices.len());
    let mut first: Vec<Option<String>> = Vec::with_capacity(slices.len());
    for slice in slices {
        let number = contexts.ids.len();
        texts.push(serde_json::to_string(&contexts.slice(slice))?);
        // A slice reads one PIT, so it adds at most one.
        let new = contexts.ids.get(number).map(|&id| Context { number, id: id.to_owned() });
        first.push(new.map(|context| serde_json::to_string(&context)).transpose()?);
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(texts)), Arc::new(StringArray::from(first))];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// Deserializes the slices of a partition in any format so far. A batch without the column `context` has format 1.
///
/// # Errors
///
/// Returns an error if the text column is missing, a text is not a slice, or a slice names a context that is
/// missing.
pub fn from_batch(batch: &RecordBatch) -> Result<Vec<Domain>, Invalid> {
    let texts = |place: usize| batch.columns().get(place).and_then(|column| column.as_string_opt::<i32>());
    let Some(slices) = texts(0) else {
        return Err("expected a column of slices, and none arrived".into());
    };
    let slices = slices.iter().map(|text| text.ok_or("expected a slice, got null"));
    if batch.num_columns() == 1 {
        let slices = slices.map(|text| Ok(serde_json::from_str(text?)?));
        return Ok(of_v1(slices.collect::<Result<Vec<SliceV1>, Invalid>>()?));
    }
    let Some(contexts) = texts(1).filter(|_| batch.schema().field(1).name() == CONTEXT) else {
        let name = batch.schema().field(1).name().clone();
        return Err(
            format!("expected a column \"{CONTEXT}\" of texts beside the slices, got \"{name}\"").into()
        );
    };
    let contexts = contexts.iter().flatten().map(|text| {
        let Context { number, id } = serde_json::from_str(text)?;
        Ok((number, Arc::from(id)))
    });
    let contexts = contexts.collect::<Result<HashMap<usize, Arc<str>>, Invalid>>()?;
    slices.map(|text| serde_json::from_str::<Slice>(text?)?.into_domain(&contexts)).collect()
}
