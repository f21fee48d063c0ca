//! The conversion of a page's bytes to columns.
//!
//! Owns: which columns one request asks for, and the conversion. The reader knows no Arrow, the decoder no HTTP.

use datafusion::arrow::array::new_null_array;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use elastic_arrow::{Column, Error, FieldType, MetaField, PageDecoder, ReadFrom};
use elastic_client::{DecodeError, DecodePage, Envelope, FieldsRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most doc value fields that one search may request, by the default of `index.max_docvalue_fields_search`.
/// See <https://www.elastic.co/guide/en/elasticsearch/reference/8.8/index-modules.html>.
const MAX_DOC_VALUES: usize = 100;

/// Decodes the pages of one projection. The slices of a partition share it.
#[derive(Clone)]
pub(crate) struct Decoder {
    parts: Arc<[Part]>,
    schema: SchemaRef,
}

/// The columns of one request.
struct Part {
    decoder: PageDecoder,
    /// The positions of these columns in the whole projection.
    places: Vec<usize>,
}

impl Decoder {
    /// Fails if a column cannot be read, or is repeated.
    pub(crate) fn try_new(columns: &[Column]) -> Result<Self, Error> {
        let whole = PageDecoder::new(columns.to_vec())?;
        let schema = whole.schema();
        let mut parts = Vec::new();
        for places in plan_parts(columns) {
            let columns = places.iter().map(|&place| columns[place].clone()).collect();
            parts.push(Part { decoder: PageDecoder::new(columns)?, places });
        }
        Ok(Self { parts: parts.into(), schema })
    }

    /// Returns the fields of each request that fill the columns.
    pub(crate) fn fields(&self) -> Vec<FieldsRequest> {
        self.parts.iter().map(|part| plan_fields(part.decoder.columns())).collect()
    }
}

impl DecodePage for Decoder {
    type Rows = RecordBatch;

    fn decode(&self, part: usize, body: &[u8]) -> Result<(Envelope, RecordBatch), DecodeError> {
        let page = self.parts[part].decoder.decode(body)?;
        let e = page.envelope;
        let envelope = Envelope {
            complete: e.complete,
            timed_out: e.timed_out,
            terminated_early: e.terminated_early,
            clusters_incomplete: e.clusters_incomplete,
            shards_failed: e.shards_failed,
            shards_total: e.shards_total,
            shard_failure: e.shard_failure,
            total: e.total,
            pit_id: e.pit_id,
            scroll_id: e.scroll_id,
            hits: e.hits,
            last_sort: e.last_sort,
        };
        Ok((envelope, page.batch))
    }

    fn join(&self, parts: Vec<RecordBatch>) -> Result<RecordBatch, DecodeError> {
        let fields = self.schema.fields().iter();
        let mut columns: Vec<_> = fields.map(|field| new_null_array(field.data_type(), 0)).collect();
        for (part, batch) in self.parts.iter().zip(parts) {
            for (&place, column) in part.places.iter().zip(batch.columns()) {
                columns[place] = Arc::clone(column);
            }
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn sortable(&self) -> BTreeMap<String, String> {
        // Requests for one page must have the same sort values.
        let [part] = self.parts.as_ref() else { return BTreeMap::new() };
        let columns = part.decoder.columns().iter().filter(|column| column.is_sort_value());
        columns.map(|column| (column.name.clone(), column.field_type.to_string())).collect()
    }

    fn by_sort(&self, sorted: &BTreeSet<String>) -> Option<(Vec<FieldsRequest>, Self)> {
        let [part] = self.parts.as_ref() else { return None };
        let columns = part.decoder.columns();
        let decoder = PageDecoder::by_sort(columns.to_vec(), sorted).ok()?;
        let (by_sort, others): (Vec<&Column>, Vec<&Column>) =
            columns.iter().partition(|column| sorted.contains(&column.name));
        let sort_values = by_sort.iter().map(|column| (column.name.clone(), column.field_type.to_string()));
        let request = FieldsRequest { sort_values: sort_values.collect(), ..plan_fields(others) };
        let part = Part { decoder, places: part.places.clone() };
        Some((vec![request], Self { parts: Arc::new([part]), schema: Arc::clone(&self.schema) }))
    }
}

/// Splits the columns into requests. The first has all columns that are not doc values, and each has at most
/// [`MAX_DOC_VALUES`].
fn plan_parts(columns: &[Column]) -> Vec<Vec<usize>> {
    let of_doc_values = |place: &usize| matches!(columns[*place].read_from, ReadFrom::DocValues { .. });
    let (doc_values, others): (Vec<usize>, Vec<usize>) = (0..columns.len()).partition(of_doc_values);
    let mut parts: Vec<Vec<usize>> = doc_values.chunks(MAX_DOC_VALUES).map(<[usize]>::to_vec).collect();
    match parts.first_mut() {
        Some(first) => {
            first.extend(others);
            first.sort_unstable();
        }
        None => parts.push(others),
    }
    parts
}

fn plan_fields<'a>(columns: impl IntoIterator<Item = &'a Column>) -> FieldsRequest {
    let mut request = FieldsRequest::default();
    for column in columns {
        match &column.read_from {
            ReadFrom::DocValues { format } => request.doc_values.push((column.name.clone(), format.clone())),
            ReadFrom::Metadata if column.field_type == FieldType::Metadata(MetaField::Source) => {
                request.whole_source = true;
            }
            ReadFrom::Metadata => request.metadata = true,
            ReadFrom::Source | ReadFrom::Unavailable { .. } => {
                request.source.extend(column.source_field().map(str::to_owned));
            }
        }
    }
    request
}

/// Returns the names under which a server lists dropped values of these columns in
/// [`_ignored`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/mapping-ignored-field.html).
pub(crate) fn ignored_names(columns: &[Column]) -> Vec<String> {
    let read = columns.iter().filter(|column| matches!(column.read_from, ReadFrom::DocValues { .. }));
    let names =
        read.flat_map(|column| [&column.name, &column.source_path].into_iter().chain(&column.targets));
    let mut names: Vec<String> = names.cloned().collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use elastic_arrow::{IndexMapping, SchemaOptions, plan_columns};
    use serde_json::{Map, json};

    /// Of three columns two are read from doc values; plus `_id`.
    fn columns(count: usize) -> Vec<Column> {
        let mut properties = Map::new();
        for i in 0..count {
            let kind = ["keyword", "text", "long"][i % 3];
            properties.insert(format!("f{i}"), json!({ "type": kind }));
        }
        let mapping =
            IndexMapping { index: "wide".into(), mapping: json!({ "properties": properties }).into() };
        let options = SchemaOptions { metadata: vec![MetaField::Id], ..SchemaOptions::default() };
        plan_columns(&[mapping], &options).unwrap()
    }

    #[test]
    fn no_request_asks_for_more_doc_values_than_servers_give() {
        for (count, doc_values) in
            [(0, vec![0]), (9, vec![6]), (150, vec![100]), (151, vec![100, 1]), (450, vec![100; 3])]
        {
            let decoder = Decoder::try_new(&columns(count)).unwrap();
            let fields = decoder.fields();
            let asked: Vec<usize> = fields.iter().map(|fields| fields.doc_values.len()).collect();
            assert_eq!(asked, doc_values, "{count}");
            assert!(fields[0].metadata && fields.iter().skip(1).all(|f| !f.metadata && f.source.is_empty()));
        }
    }

    #[test]
    fn texts_are_read_by_sort_values_if_each_page_is_one_request() {
        let decoder = Decoder::try_new(&columns(9)).unwrap();
        assert_eq!(
            decoder.sortable(),
            ["f0", "f3", "f6"].map(|name| (name.to_owned(), "keyword".to_owned())).into()
        );
        let sorted = ["f0", "f6"].map(str::to_owned).into();
        let (fields, by_sort) = decoder.by_sort(&sorted).unwrap();
        let [fields] = fields.as_slice() else { panic!("{} requests", fields.len()) };
        assert_eq!(fields.sort_values, ["f0", "f6"].map(|name| (name.to_owned(), "keyword".to_owned())));
        let doc_values: Vec<&str> = fields.doc_values.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(doc_values, ["f2", "f3", "f5", "f8"]);
        assert!(fields.metadata && fields.source == ["f1", "f4", "f7"]);
        let hit = json!({ "_id": "a", "_index": "wide", "_source": {}, "sort": [1, "x", null],
            "fields": { "f2": [2], "f3": ["y"] } });
        let body =
            json!({ "timed_out": false, "_shards": { "total": 1, "failed": 0 }, "hits": { "hits": [hit] } });
        let (envelope, rows) = by_sort.decode(0, body.to_string().as_bytes()).unwrap();
        assert_eq!(envelope.last_sort, Some(vec![json!(1)]));
        assert_eq!(rows.schema(), Decoder::try_new(&columns(9)).unwrap().schema);
        let text = |place: usize| {
            datafusion::arrow::util::display::array_value_to_string(rows.column(place), 0).unwrap()
        };
        let values: Vec<String> = (0..10).map(text).filter(|text| !text.is_empty()).collect();
        assert_eq!(values, ["a", "x", "2", "y"]);
        let several = Decoder::try_new(&columns(151)).unwrap();
        assert!(several.sortable().is_empty() && several.by_sort(&sorted).is_none());
    }

    #[test]
    fn columns_of_several_requests_stand_where_they_did() {
        let columns = columns(450);
        let decoder = Decoder::try_new(&columns).unwrap();
        let mut parts = Vec::new();
        for (part, fields) in decoder.fields().iter().enumerate() {
            let mut values = Map::new();
            for (name, _) in &fields.doc_values {
                let number: u64 = name[1..].parse().unwrap();
                let value =
                    if number.is_multiple_of(3) { json!(format!("k{number}")) } else { json!(number) };
                values.insert(name.clone(), json!([value]));
            }
            let source: Map<_, _> =
                fields.source.iter().map(|name| (name.clone(), json!(format!("t{name}")))).collect();
            let mut hit = json!({ "_id": "a", "_index": "wide", "fields": values, "sort": [1] });
            if part == 0 {
                hit["_source"] = json!(source);
            }
            let body = json!({ "timed_out": false, "_shards": { "total": 1, "failed": 0 },
                "hits": { "hits": [hit] } });
            parts.push(decoder.decode(part, body.to_string().as_bytes()).unwrap().1);
        }
        let joined = decoder.join(parts).unwrap();
        for (column, values) in columns.iter().zip(joined.columns()) {
            let value = datafusion::arrow::util::display::array_value_to_string(values, 0).unwrap();
            let expected = match column.name.strip_prefix('f').map(|n| (n, n.parse::<u64>().unwrap() % 3)) {
                None => "a".to_owned(),
                Some((number, 0)) => format!("k{number}"),
                Some((number, 1)) => format!("tf{number}"),
                Some((number, _)) => number.to_owned(),
            };
            assert_eq!(value, expected, "{}", column.name);
        }
    }
}
