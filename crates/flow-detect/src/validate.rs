//! A spec against a schema, before anything is read. Owns which types are addresses and times; must
//! not know where a schema comes from.

use arrow::datatypes::{DataType, Field, Schema};

use crate::{DetectSpec, Error, Result};

/// The canonical extension type of a string column that holds JSON.
const EXTENSION_NAME: &str = "ARROW:extension:name";
const JSON_EXTENSION: &str = "arrow.json";

/// Checks that the fields of `spec` exist in `schema` and have types the detection can work with.
///
/// The time field is looked at only if the spec has a window.
pub fn validate(schema: &Schema, spec: &DetectSpec) -> Result<()> {
    check_address(find(schema, spec, &spec.source_field)?)?;
    check_address(find(schema, spec, &spec.destination_field)?)?;
    if spec.since.is_some() || spec.until.is_some() {
        check_time(find(schema, spec, &spec.time_field)?)?;
    }
    if let (Some(since), Some(until)) = (spec.since, spec.until)
        && since >= until
    {
        return Err(Error::EmptyWindow { since, until });
    }
    Ok(())
}

fn find<'a>(schema: &'a Schema, spec: &DetectSpec, name: &str) -> Result<&'a Field> {
    schema.field_with_name(name).map_err(|_| Error::UnknownField {
        table: spec.table.clone(),
        field: name.to_owned(),
        nearest: nearest(schema, name),
    })
}

/// The nearest name, if it is near enough to be a slip of the pen or a lost prefix.
fn nearest(schema: &Schema, name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let mut best: Option<(f64, &String)> = None;
    for field in schema.fields() {
        let candidate = field.name().to_lowercase();
        let last_part = candidate.rsplit('.').next().unwrap_or(&candidate);
        let score = strsim::normalized_damerau_levenshtein(&lower, &candidate)
            .max(strsim::normalized_damerau_levenshtein(&lower, last_part));
        if score >= 0.6 && best.is_none_or(|(other, _)| score > other) {
            best = Some((score, field.name()));
        }
    }
    best.map(|(_, name)| name.clone())
}

fn check_address(field: &Field) -> Result<()> {
    let refuse = |reason| {
        Err(Error::NotAnAddress {
            field: field.name().clone(),
            data_type: field.data_type().clone(),
            reason,
        })
    };
    let value_type = match field.data_type() {
        DataType::Dictionary(_, value_type) => value_type.as_ref(),
        data_type => data_type,
    };
    match value_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            if field.metadata().get(EXTENSION_NAME).is_some_and(|name| name == JSON_EXTENSION) {
                return refuse("it holds the JSON text of nested values");
            }
            Ok(())
        }
        data_type if data_type.is_integer() => Ok(()),
        data_type if data_type.is_floating() => refuse("a fraction has no exact text"),
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(_, _) => refuse("it holds several values in a row"),
        data_type if data_type.is_nested() => refuse("it holds nested values"),
        _ => refuse("its values are not addresses"),
    }
}

fn check_time(field: &Field) -> Result<()> {
    match field.data_type() {
        DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 => Ok(()),
        // Another zone would shift the window: the literal it is compared with has none.
        DataType::Timestamp(_, Some(zone)) if matches!(zone.as_ref(), "UTC" | "Z" | "+00:00" | "+00") => {
            Ok(())
        }
        data_type => {
            Err(Error::NotATime { field: field.name().clone(), data_type: data_type.clone() })
        }
    }
}
