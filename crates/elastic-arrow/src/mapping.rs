//! From mappings to columns.
//!
//! Owns: the leaf fields of a mapping, their types, and where the values of each can be read. Must not know: pages, or
//! how several indices are merged to one schema (`merge`).

mod definition;
mod source_rule;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::field::{Column, FieldType, MetaField, ReadFrom};
use crate::leaf::{IndexFields, Leaf};
use crate::merge;
use definition::{date_refusal, flag, has_doc_values, join, keyword_subfield, limit, prints_any_date};
use source_rule::{SourceRule, collect_copied};

/// The mapping of one index.
#[derive(Clone, Debug)]
pub struct IndexMapping {
    /// The name of the index.
    pub index: String,
    /// The value of `mappings` in the response of
    /// [`GET index/_mapping`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/indices-get-mapping.html).
    /// Indices with equal mappings should share one value, because [`plan_columns`] plans a shared value once.
    pub mapping: Arc<Value>,
}

/// The options for turning mappings into columns.
#[derive(Clone, Debug, Default)]
pub struct SchemaOptions {
    /// The dotted names of fields with several values, which become list columns.
    pub arrays: BTreeSet<String>,
    /// The dotted names of fields that become no columns, including their sub-fields.
    pub exclude: BTreeSet<String>,
    /// The metadata columns. They come first, in this order.
    pub metadata: Vec<MetaField>,
    /// How a field whose type has no column type is handled.
    pub unknown_types: UnknownTypes,
    /// Where keyword columns with `ignore_above` are read.
    pub long_keywords: LongKeywords,
    /// The names of indices whose keyword columns with `ignore_above` are always read from `_source`.
    pub long_in_source_of: BTreeSet<String>,
    /// Whether the values of a `constant_keyword` can be read.
    pub constant_keywords: ConstantKeywords,
}

impl SchemaOptions {
    fn excludes(&self, name: &str) -> bool {
        self.exclude.contains(name)
            || name.match_indices('.').any(|(end, _)| self.exclude.contains(&name[..end]))
    }

    fn reads_long_from_source(&self, index: &str) -> bool {
        self.long_keywords == LongKeywords::Source || self.long_in_source_of.contains(index)
    }
}

/// Whether the doc values of a
/// [`constant_keyword`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/keyword.html) are its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConstantKeywords {
    /// The doc values are its value, as on Elasticsearch.
    #[default]
    DocValues,
    /// The doc values are the name of the index, as on OpenSearch. So the column cannot be read.
    Unreadable,
}

/// Where a keyword column with
/// [`ignore_above`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/ignore-above.html) is read. Its doc
/// values do not contain longer values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongKeywords {
    /// From doc values. The caller must detect dropped values in another way, or accept null.
    #[default]
    DocValues,
    /// From `_source`, which contains the longer values.
    Source,
}

/// How a field whose type has no column type is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownTypes {
    /// Fails with an error that names the field and its type.
    #[default]
    Error,
    /// Makes a column of JSON text from `_source`.
    JsonText,
}

/// Returns the columns of all `mappings` together: metadata first, then fields in the order of the mappings.
///
/// # Errors
///
/// If a mapping is invalid, if a type has no column type, or if the types of a field do not fit one column.
pub fn plan_columns(mappings: &[IndexMapping], options: &SchemaOptions) -> Result<Vec<Column>, Error> {
    let mut columns = Vec::new();
    let sourceless =
        mappings.iter().find(|m| m.mapping.get("_source").is_some_and(|rule| !flag(rule, "enabled", true)));
    for meta in &options.metadata {
        let read_from = match (meta, sourceless) {
            (MetaField::Source, Some(mapping)) => {
                ReadFrom::Unavailable { reason: format!("index \"{}\" has _source disabled", mapping.index) }
            }
            (MetaField::Id | MetaField::Index | MetaField::Source, _) => ReadFrom::Metadata,
        };
        columns.push(Column::metadata(*meta, read_from));
    }
    columns.extend(merge::merge(plan_distinct(mappings, options)?)?);
    Ok(columns)
}

/// Returns the fields of each distinct mapping, in the order of their first indices. A mapping is planned once for all
/// indices that share its value and read long keywords from the same place.
///
/// Values that are equal, but not shared, are planned separately: their comparison would ignore the order of fields,
/// which is that of columns.
fn plan_distinct<'a>(
    mappings: &'a [IndexMapping],
    options: &SchemaOptions,
) -> Result<Vec<IndexFields<'a>>, Error> {
    let mut planned: Vec<IndexFields<'a>> = Vec::new();
    let mut positions: HashMap<(*const Value, bool), usize> = HashMap::new();
    for (number, mapping) in mappings.iter().enumerate() {
        let long_from_source = options.reads_long_from_source(&mapping.index);
        let key = (Arc::as_ptr(&mapping.mapping), long_from_source);
        let position = *positions.entry(key).or_insert(planned.len());
        if position == planned.len() {
            planned.push(plan_index(mapping, long_from_source, options)?);
        }
        planned[position].indices.push((number, &mapping.index));
    }
    Ok(planned)
}

/// Returns the fields of a mapping, without the list of its indices.
fn plan_index<'a>(
    mapping: &'a IndexMapping,
    long_from_source: bool,
    options: &SchemaOptions,
) -> Result<IndexFields<'a>, Error> {
    let Some(root) = mapping.mapping.as_object() else {
        return Err(invalid(&mapping.index, "mappings", "it is not an object"));
    };
    let body = typed_body(root).unwrap_or(root);
    let mut planner = Planner {
        index: &mapping.index,
        options,
        long_from_source,
        source: SourceRule::from_mapping(body),
        copied: HashSet::new(),
        aliases: Vec::new(),
        leaves: Vec::new(),
        objects: BTreeSet::new(),
    };
    if let Some(properties) = body.get("properties") {
        collect_copied(properties, &mut planner.copied);
        planner.plan_properties("", properties)?;
    }
    planner.resolve_aliases()?;
    if let Some(runtime) = body.get("runtime") {
        planner.plan_runtime("", runtime)?;
    }
    planner.leaves.retain(|leaf| !options.excludes(&leaf.column.name));
    planner.objects.retain(|name| !options.excludes(name));
    let Planner { leaves, objects, .. } = planner;
    Ok(IndexFields { index: &mapping.index, indices: Vec::new(), leaves, objects })
}

/// Returns the mapping inside its type name, which Elasticsearch 6 adds.
fn typed_body(root: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let mut entries = root.iter();
    let (Some((name, body)), None) = (entries.next(), entries.next()) else { return None };
    let known = ["properties", "runtime", "dynamic_templates", "_meta", "_source", "_routing"];
    let body = body.as_object()?;
    (!known.contains(&name.as_str()) && body.contains_key("properties")).then_some(body)
}

struct Planner<'a> {
    index: &'a str,
    options: &'a SchemaOptions,
    /// Whether keyword columns with `ignore_above` are read from `_source`.
    long_from_source: bool,
    source: SourceRule,
    /// The targets of `copy_to`. Copied values are not in `_source`.
    copied: HashSet<String>,
    aliases: Vec<Alias>,
    leaves: Vec<Leaf>,
    objects: BTreeSet<String>,
}

struct Alias {
    name: String,
    target: String,
    /// The position of the alias among the leaves.
    position: usize,
}

impl Planner<'_> {
    fn plan_properties(&mut self, parent: &str, properties: &Value) -> Result<(), Error> {
        let Some(properties) = properties.as_object() else {
            return Err(invalid(self.index, parent, "properties are not an object"));
        };
        for (key, definition) in properties {
            let name = join(parent, key);
            if !definition.is_object() {
                return Err(invalid(self.index, &name, "its definition is not an object"));
            }
            match definition.get("type").and_then(Value::as_str).unwrap_or("object") {
                "object" | "passthrough" if !flag(definition, "enabled", true) => {
                    self.push_leaf(name.clone(), &name, FieldType::Object, definition);
                }
                "object" | "passthrough" => {
                    if let Some(children) = definition.get("properties") {
                        self.plan_properties(&name, children)?;
                    }
                    self.objects.insert(name);
                }
                "alias" => {
                    let Some(target) = definition.get("path").and_then(Value::as_str) else {
                        return Err(invalid(self.index, &name, "the alias has no path"));
                    };
                    let target = target.to_owned();
                    self.aliases.push(Alias { name, target, position: self.leaves.len() });
                }
                type_name => self.plan_field(name, type_name, definition)?,
            }
        }
        Ok(())
    }

    fn plan_field(&mut self, name: String, type_name: &str, definition: &Value) -> Result<(), Error> {
        let field_type = self.field_type(&name, type_name)?;
        self.push_leaf(name.clone(), &name, field_type, definition);
        let Some(subfields) = definition.get("fields").and_then(Value::as_object) else { return Ok(()) };
        for (key, subfield) in subfields {
            let path = join(&name, key);
            let type_name = subfield.get("type").and_then(Value::as_str).unwrap_or_default();
            let field_type = self.field_type(&path, type_name)?;
            self.push_leaf(path, &name, field_type, subfield);
        }
        Ok(())
    }

    fn field_type(&self, name: &str, type_name: &str) -> Result<FieldType, Error> {
        if let Some(field_type) = FieldType::from_mapping(type_name) {
            return Ok(field_type);
        }
        match self.options.unknown_types {
            _ if self.options.excludes(name) => Ok(FieldType::Unknown(type_name.to_owned())),
            UnknownTypes::JsonText => Ok(FieldType::Unknown(type_name.to_owned())),
            UnknownTypes::Error => Err(Error::UnknownType {
                index: self.index.to_owned(),
                field: name.to_owned(),
                field_type: type_name.to_owned(),
            }),
        }
    }

    fn push_leaf(&mut self, name: String, source_path: &str, field_type: FieldType, definition: &Value) {
        let mut doc_values = has_doc_values(&field_type, definition);
        let token_count = definition.get("type").and_then(Value::as_str) == Some("token_count");
        let mut not_in_source = if self.copied.contains(source_path) {
            Some("it is filled by copy_to, and copied values are not in _source".to_owned())
        } else if token_count {
            Some("a token count is not in _source".to_owned())
        } else if definition.get("script").is_some_and(|script| !script.is_null()) {
            Some("it is computed by a script, and computed values are not in _source".to_owned())
        } else if field_type == FieldType::ConstantKeyword {
            Some("the value of a constant_keyword may be missing in _source".to_owned())
        } else {
            self.source
                .refusal(source_path, field_type.is_json())
                .or_else(|| date_refusal(&field_type, definition))
        };
        let ignore_above = limit(definition);
        if self.long_from_source && ignore_above.is_some() {
            doc_values = false;
        }
        if field_type == FieldType::ConstantKeyword
            && self.options.constant_keywords == ConstantKeywords::Unreadable
        {
            doc_values = false;
            not_in_source =
                Some("the server returns the index name in place of a constant_keyword".to_owned());
        }
        let read_from = self.read_from(doc_values, &field_type, not_in_source.as_deref());
        let column = Column {
            array: self.options.arrays.contains(&name),
            source_path: source_path.to_owned(),
            indexed: flag(definition, "index", true) && field_type != FieldType::Object,
            doc_values,
            keyword_subfield: keyword_subfield(&name, &field_type, definition),
            normalizer: definition.get("normalizer").is_some_and(|value| !value.is_null()),
            ignore_above,
            null_value: definition.get("null_value").is_some_and(|value| !value.is_null()),
            prints_any_date: prints_any_date(definition),
            computed: false,
            mixed: false,
            targets: BTreeSet::new(),
            read_from,
            field_type,
            name,
        };
        self.leaves.push(Leaf { column, not_in_source });
    }

    fn read_from(&self, doc_values: bool, field_type: &FieldType, not_in_source: Option<&str>) -> ReadFrom {
        match (doc_values, not_in_source) {
            (true, _) => ReadFrom::DocValues { format: field_type.doc_value_format() },
            (false, None) => ReadFrom::Source,
            (false, Some(reason)) => {
                ReadFrom::Unavailable { reason: format!("in index \"{}\" {reason}", self.index) }
            }
        }
    }

    /// Adds the columns of [aliases](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/field-alias.html).
    /// `docvalue_fields` accepts the name of an alias, but `_source` contains only the target.
    fn resolve_aliases(&mut self) -> Result<(), Error> {
        let mut placed = Vec::with_capacity(self.aliases.len());
        for alias in std::mem::take(&mut self.aliases) {
            let Some(target) = self.leaves.iter().find(|leaf| leaf.column.name == alias.target) else {
                let reason = format!("the alias points to \"{}\", which is not a field", alias.target);
                return Err(invalid(self.index, &alias.name, &reason));
            };
            let array = self.options.arrays.contains(&alias.name);
            let targets = BTreeSet::from([alias.target]);
            let column = Column { name: alias.name, array, targets, ..target.column.clone() };
            placed.push((alias.position, Leaf { column, not_in_source: target.not_in_source.clone() }));
        }
        for (position, leaf) in placed.into_iter().rev() {
            self.leaves.insert(position, leaf);
        }
        Ok(())
    }

    /// Adds the columns of runtime fields. They are computed, are read like doc values, and hide a mapped field of the
    /// same name.
    fn plan_runtime(&mut self, parent: &str, runtime: &Value) -> Result<(), Error> {
        let Some(fields) = runtime.as_object() else {
            return Err(invalid(self.index, "runtime", "it is not an object"));
        };
        for (key, definition) in fields {
            let name = join(parent, key);
            let type_name = definition.get("type").and_then(Value::as_str).unwrap_or_default();
            if type_name == "composite" {
                self.plan_runtime(&name, definition.get("fields").unwrap_or(&Value::Null))?;
                continue;
            }
            let field_type = self.field_type(&name, type_name)?;
            let doc_values = has_doc_values(&field_type, &Value::Null);
            let reason = "it is a runtime field, which is not in _source".to_owned();
            let read_from = self.read_from(doc_values, &field_type, Some(&reason));
            let column = Column {
                array: self.options.arrays.contains(&name),
                source_path: name.clone(),
                indexed: true,
                doc_values,
                keyword_subfield: None,
                normalizer: false,
                ignore_above: None,
                null_value: false,
                prints_any_date: false,
                computed: true,
                mixed: false,
                targets: BTreeSet::new(),
                read_from,
                field_type,
                name,
            };
            let leaf = Leaf { column, not_in_source: Some(reason) };
            match self.leaves.iter_mut().find(|other| other.column.name == leaf.column.name) {
                Some(hidden) => *hidden = leaf,
                None => self.leaves.push(leaf),
            }
        }
        Ok(())
    }
}

fn invalid(index: &str, field: &str, reason: &str) -> Error {
    let field = if field.is_empty() { "mappings" } else { field };
    Error::InvalidMapping { index: index.to_owned(), field: field.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;

#[cfg(test)]
mod sharing_tests;
