//! The time to plan the columns of an index pattern.
//!
//! Owns: the mappings that are measured. Must not know: how they are planned.
//!
//! `cargo bench -p elastic-arrow --bench plan` prints the time for one index and for 1,000 daily indices, whose mapping
//! has as many fields as ECS. The indices share the mapping, as those that a connection fetches, or each has its own.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use elastic_arrow::{IndexMapping, SchemaOptions, plan_columns};
use serde_json::{Map, Value, json};

const FIELDS: usize = 1_500;
const INDICES: usize = 1_000;

/// Returns a mapping of objects with ten fields each.
fn mapping() -> Value {
    let mut objects = Map::new();
    for object in 0..FIELDS / 10 {
        let mut fields = Map::new();
        for field in 0..10 {
            let definition = match field {
                0 => json!({ "type": "ip" }),
                1 => json!({ "type": "long" }),
                2 => json!({ "type": "date" }),
                3 => json!({ "type": "boolean" }),
                4 => json!({ "type": "wildcard", "fields": { "text": { "type": "match_only_text" } } }),
                _ => json!({ "type": "keyword", "ignore_above": 1024 }),
            };
            fields.insert(format!("field_{field}"), definition);
        }
        objects.insert(format!("object_{object}"), json!({ "properties": fields }));
    }
    json!({ "properties": objects })
}

fn indices(mappings: impl Iterator<Item = Arc<Value>>) -> Vec<IndexMapping> {
    let named = mappings.enumerate();
    named.map(|(number, mapping)| IndexMapping { index: format!("flows-{number:04}"), mapping }).collect()
}

fn plan(c: &mut Criterion) {
    let options = SchemaOptions::default();
    let mapping = Arc::new(mapping());
    let one = indices([Arc::clone(&mapping)].into_iter());
    let shared = indices((0..INDICES).map(|_| Arc::clone(&mapping)));
    let mut group = c.benchmark_group("plan_columns");
    group.sample_size(10);
    for (name, mappings) in [("1 index", &one), ("1,000 indices, mapping shared", &shared)] {
        group.bench_function(name, |b| {
            b.iter(|| plan_columns(black_box(mappings), &options).expect("the mapping is valid"))
        });
    }
    let own = || indices((0..20).map(|_| Arc::new(Value::clone(&mapping))));
    group.bench_function("20 indices, a mapping each", |b| {
        b.iter_batched_ref(
            own,
            |mappings| plan_columns(mappings, &options).expect("the mapping is valid"),
            BatchSize::PerIteration,
        )
    });
    group.finish();
}

criterion_group!(benches, plan);
criterion_main!(benches);
