//! Merging the fields of several indices to one list of columns.
//!
//! Owns: the widening of types, conflicts, and where a column is read from if indices differ. Must not know: mappings
//! as JSON, or pages.

use std::collections::HashMap;
use std::fmt::Write;

use crate::error::Error;
use crate::field::{Column, FieldType, KeywordSubfield, ReadFrom};
use crate::leaf::{IndexFields, Leaf};

/// A leaf, with the mapping that it is from.
struct Member<'a> {
    fields: &'a IndexFields<'a>,
    leaf: Leaf,
}

/// Returns one column for each name, in the order in which the names first appear. `mappings` are in the order of their
/// first indices. The time does not depend on how many indices have a mapping.
pub(crate) fn merge(mut mappings: Vec<IndexFields<'_>>) -> Result<Vec<Column>, Error> {
    check_objects(&mappings)?;
    let leaves: Vec<Vec<Leaf>> =
        mappings.iter_mut().map(|fields| std::mem::take(&mut fields.leaves)).collect();
    let mut groups: Vec<Vec<Member<'_>>> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    for (fields, leaves) in mappings.iter().zip(leaves) {
        for leaf in leaves {
            let position = *positions.entry(leaf.column.name.clone()).or_insert(groups.len());
            if position == groups.len() {
                groups.push(Vec::new());
            }
            groups[position].push(Member { fields, leaf });
        }
    }
    let mut columns = Vec::with_capacity(groups.len());
    for group in groups {
        columns.push(merge_group(group)?);
    }
    Ok(columns)
}

/// Refuses a name that is a leaf in one index and an object in another.
fn check_objects(mappings: &[IndexFields<'_>]) -> Result<(), Error> {
    let mut objects: HashMap<&str, &str> = HashMap::new();
    for fields in mappings {
        for name in &fields.objects {
            objects.entry(name).or_insert(fields.index);
        }
    }
    for fields in mappings {
        for leaf in &fields.leaves {
            let column = &leaf.column;
            let Some(index) = objects.get(column.name.as_str()) else { continue };
            let kind = &column.field_type;
            let kind =
                if *kind == FieldType::Object { "disabled object".to_owned() } else { kind.to_string() };
            return Err(Error::Conflict {
                field: column.name.clone(),
                types: format!("{kind} in \"{}\"; object in \"{index}\"", fields.index),
            });
        }
    }
    Ok(())
}

fn merge_group(group: Vec<Member<'_>>) -> Result<Column, Error> {
    let field_type = merged_type(&group)?;
    let read_from = merged_read(&group, &field_type);
    let mut leaves = group.into_iter().map(|member| member.leaf.column);
    let Some(mut merged) = leaves.next() else { unreachable!("a group starts with its first leaf") };
    for column in leaves {
        merged.indexed &= column.indexed;
        merged.doc_values &= column.doc_values;
        merged.normalizer |= column.normalizer;
        merged.null_value |= column.null_value;
        merged.prints_any_date &= column.prints_any_date;
        merged.computed |= column.computed;
        merged.targets.extend(column.targets.into_iter().chain([column.source_path]));
        merged.mixed |= merged.field_type != column.field_type;
        merged.ignore_above = smaller(merged.ignore_above, column.ignore_above);
        merged.keyword_subfield = match (merged.keyword_subfield, column.keyword_subfield) {
            (Some(a), Some(b)) if a.name == b.name => {
                Some(KeywordSubfield { ignore_above: smaller(a.ignore_above, b.ignore_above), ..a })
            }
            _ => None,
        };
    }
    merged.targets.retain(|target| *target != merged.name && *target != merged.source_path);
    merged.field_type = field_type;
    merged.read_from = read_from;
    Ok(merged)
}

fn merged_type(group: &[Member<'_>]) -> Result<FieldType, Error> {
    let mut merged: Option<FieldType> = None;
    for member in group {
        let next = &member.leaf.column.field_type;
        let Some(so_far) = merged.take() else {
            merged = Some(next.clone());
            continue;
        };
        let Some(wider) = widen(&so_far, next) else { return Err(conflict(group)) };
        merged = Some(wider);
    }
    merged.ok_or_else(|| conflict(group))
}

/// Returns the type that represents the values of both without loss, or `None` if there is none.
fn widen(a: &FieldType, b: &FieldType) -> Option<FieldType> {
    if a == b {
        return Some(a.clone());
    }
    if let (Some(a), Some(b)) = (integer_rank(a), integer_rank(b)) {
        return [FieldType::Byte, FieldType::Short, FieldType::Integer, FieldType::Long]
            .into_iter()
            .nth(a.max(b));
    }
    if is_exact(a) && is_exact(b) {
        return Some(FieldType::Keyword);
    }
    let small = |t: &FieldType| matches!(t, FieldType::HalfFloat | FieldType::Float);
    if small(a) && small(b) {
        return Some(FieldType::Float);
    }
    let floating = |t: &FieldType| small(t) || matches!(t, FieldType::Double | FieldType::ScaledFloat);
    let in_double = |t: &FieldType| floating(t) || integer_rank(t).is_some_and(|rank| rank < 3);
    (in_double(a) && in_double(b)).then_some(FieldType::Double)
}

fn integer_rank(field_type: &FieldType) -> Option<usize> {
    match field_type {
        FieldType::Byte => Some(0),
        FieldType::Short => Some(1),
        FieldType::Integer => Some(2),
        FieldType::Long => Some(3),
        _ => None,
    }
}

fn is_exact(field_type: &FieldType) -> bool {
    matches!(field_type, FieldType::Keyword | FieldType::ConstantKeyword | FieldType::Wildcard)
}

/// Returns where the column is read: from doc values if all indices have them. Otherwise from `_source`, if all indices
/// have the field there at the same path.
fn merged_read(group: &[Member<'_>], field_type: &FieldType) -> ReadFrom {
    if group.iter().all(|member| member.leaf.column.doc_values) {
        return ReadFrom::DocValues { format: field_type.doc_value_format() };
    }
    for Member { fields, leaf } in group {
        let index = fields.index;
        let Some(reason) = &leaf.not_in_source else { continue };
        let reason = if leaf.column.doc_values {
            format!("other indices have no doc values, and in index \"{index}\" {reason}")
        } else {
            format!("in index \"{index}\" {reason}")
        };
        return ReadFrom::Unavailable { reason };
    }
    let path = group.first().map(|member| &member.leaf.column.source_path);
    if group.iter().any(|member| Some(&member.leaf.column.source_path) != path) {
        return ReadFrom::Unavailable {
            reason: "some indices have no doc values, and its paths in _source differ".to_owned(),
        };
    }
    ReadFrom::Source
}

fn conflict(group: &[Member<'_>]) -> Error {
    let mut kinds: Vec<(&FieldType, Vec<(usize, &str)>)> = Vec::new();
    for member in group {
        let field_type = &member.leaf.column.field_type;
        match kinds.iter_mut().find(|(kind, _)| *kind == field_type) {
            Some((_, indices)) => indices.extend(&member.fields.indices),
            None => kinds.push((field_type, member.fields.indices.clone())),
        }
    }
    let mut types = String::new();
    for (kind, mut indices) in kinds {
        indices.sort_unstable();
        let separator = if types.is_empty() { "" } else { "; " };
        // Three indices are enough as examples. The names of thousands would hide the types.
        let named: Vec<String> = indices.iter().take(3).map(|(_, index)| format!("\"{index}\"")).collect();
        let _ = write!(types, "{separator}{kind} in {}", named.join(", "));
        if indices.len() > 3 {
            let _ = write!(types, " and {} more", indices.len() - 3);
        }
    }
    let field = group.first().map(|member| member.leaf.column.name.clone()).unwrap_or_default();
    Error::Conflict { field, types }
}

/// Returns the smaller limit. `None` means no limit.
fn smaller(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
