//! Checks a spec against a schema before anything is read.
//!
//! Owns: which types are addresses and times. Must not know: where a schema comes from.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use crate::error::{Error, Result};
use crate::spec::DetectSpec;

/// The key of the canonical extension type, which marks a string column that has JSON text.
const EXTENSION_NAME: &str = "ARROW:extension:name";
const JSON_EXTENSION: &str = "arrow.json";

/// Checks that the fields of `spec` exist in `schema` and have usable types. The time field is checked only if the spec
/// has a window.
///
/// # Errors
///
/// If a field does not exist or has another type, or if the window is empty.
pub fn validate(schema: &Schema, spec: &DetectSpec) -> Result<()> {
    check_address(find(schema, spec, &spec.source_field)?)?;
    check_address(find(schema, spec, &spec.destination_field)?)?;
    if spec.since.is_some() || spec.until.is_some() {
        check_time(find(schema, spec, &spec.time_field)?, spec)?;
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

/// Returns the most similar name, if it is similar enough for a typing error or a missing prefix.
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
        Err(Error::NotAnAddress { field: field.name().clone(), data_type: field.data_type().clone(), reason })
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
        | DataType::FixedSizeList(_, _) => refuse("a row has several values"),
        data_type if data_type.is_nested() => refuse("it holds nested values"),
        _ => refuse("its values are not addresses"),
    }
}

fn check_time(field: &Field, spec: &DetectSpec) -> Result<()> {
    let unit = match field.data_type() {
        DataType::Date32 | DataType::Date64 => return Ok(()),
        DataType::Timestamp(unit, None) => unit,
        // A column in another zone would shift the window, because the literal has no zone.
        DataType::Timestamp(unit, Some(zone)) if matches!(zone.as_ref(), "UTC" | "+00:00" | "+00") => unit,
        data_type => {
            return Err(Error::NotATime { field: field.name().clone(), data_type: data_type.clone() });
        }
    };
    if *unit != TimeUnit::Second {
        return Ok(());
    }
    // DataFusion casts the literal to the unit of the column, and truncates it.
    for instant in [spec.since, spec.until].into_iter().flatten() {
        if instant % 1000 != 0 {
            return Err(Error::BetweenSeconds {
                field: field.name().clone(),
                data_type: field.data_type().clone(),
                instant,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::spec;

    fn check(fields: Vec<Field>, spec: &DetectSpec, expected: &str) {
        let error = validate(&Schema::new(fields), spec).unwrap_err().to_string();
        assert_eq!(error, expected);
    }

    #[test]
    fn validation_names_field_and_type() {
        let spec = DetectSpec { since: Some(1), until: Some(2), ..spec("3") };
        let time = || Field::new("@timestamp", DataType::Timestamp(TimeUnit::Millisecond, None), true);
        let source = |data_type| Field::new("netflow.ipv4_src_addr", data_type, true);
        let destination = || Field::new("netflow.ipv4_dst_addr", DataType::Utf8View, true);
        let good = Schema::new(vec![time(), source(DataType::Utf8), destination()]);
        validate(&good, &spec).unwrap();

        let lost = DetectSpec { source_field: "ipv4_src_adr".to_owned(), ..spec.clone() };
        check(
            vec![time(), source(DataType::Utf8), destination()],
            &lost,
            r#"table "flows" has no field "ipv4_src_adr", did you mean "netflow.ipv4_src_addr"?"#,
        );
        let foreign = DetectSpec { source_field: "bytes".to_owned(), ..spec.clone() };
        check(
            vec![time(), source(DataType::Utf8), destination()],
            &foreign,
            r#"table "flows" has no field "bytes""#,
        );
        check(
            vec![time(), source(DataType::Float64), destination()],
            &spec,
            r#"field "netflow.ipv4_src_addr" has type Float64: a fraction has no exact text, and an address must be a string or an integer"#,
        );
        let list = DataType::new_list(DataType::Utf8, true);
        check(
            vec![time(), source(list.clone()), destination()],
            &spec,
            &format!(
                r#"field "netflow.ipv4_src_addr" has type {list}: a row has several values, and an address must be a string or an integer"#
            ),
        );
        let json = source(DataType::Utf8)
            .with_metadata([("ARROW:extension:name".to_owned(), "arrow.json".to_owned())].into());
        check(
            vec![time(), json, destination()],
            &spec,
            r#"field "netflow.ipv4_src_addr" has type Utf8: it holds the JSON text of nested values, and an address must be a string or an integer"#,
        );
        let text_time = Field::new("@timestamp", DataType::Utf8, true);
        check(
            vec![text_time.clone(), source(DataType::Utf8), destination()],
            &spec,
            r#"time field "@timestamp" has type Utf8: a window needs a date, or a timestamp in UTC"#,
        );
        let zoned = DataType::Timestamp(TimeUnit::Millisecond, Some("+02:00".into()));
        check(
            vec![Field::new("@timestamp", zoned, true), source(DataType::Utf8), destination()],
            &spec,
            r#"time field "@timestamp" has type Timestamp(ms, "+02:00"): a window needs a date, or a timestamp in UTC"#,
        );
        let seconds = || Field::new("@timestamp", DataType::Timestamp(TimeUnit::Second, None), true);
        let off_tick = DetectSpec { since: Some(1000), until: Some(2500), ..spec.clone() };
        check(
            vec![seconds(), source(DataType::Utf8), destination()],
            &off_tick,
            r#"time field "@timestamp" has type Timestamp(s): a window on it must begin and end on whole seconds, not at 2500 ms"#,
        );
        let on_tick = DetectSpec { since: Some(1000), until: Some(2000), ..spec.clone() };
        validate(&Schema::new(vec![seconds(), source(DataType::Utf8), destination()]), &on_tick).unwrap();
        let backwards = DetectSpec { since: Some(2), until: Some(2), ..spec.clone() };
        check(
            vec![time(), source(DataType::Utf8), destination()],
            &backwards,
            "the window is empty: since 2 is not before until 2",
        );

        let no_window = DetectSpec { since: None, until: None, ..spec };
        validate(&Schema::new(vec![text_time, source(DataType::Int64), destination()]), &no_window).unwrap();
        validate(&Schema::new(vec![source(DataType::LargeUtf8), destination()]), &no_window).unwrap();
    }
}
