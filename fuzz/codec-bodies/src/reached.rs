//! What a plan reaches, looked at a second time.
//!
//! Owns: walking a plan, its expressions and its tables. Must not know admission, which is held against it.

use std::any::Any;
use std::path::PathBuf;

use datafusion::catalog::TableProvider;
use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::ViewTable;
use datafusion::datasource::listing::{ListingTable, ListingTableUrl};
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use datafusion_elasticsearch::{EsTable, wire};
use serde_json::Value;
use url::Url;

/// The index that Elasticsearch reads a shape from where its query names none.
const DEFAULT_SHAPES: &str = "shapes";
/// What reaches no one knows where is said to reach everything.
const EVERY_INDEX: &str = "*";

/// What a plan reaches.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// Connections with index expressions.
    pub(crate) indices: Vec<(String, String)>,
    /// Files and folders as an object store takes them.
    pub(crate) reads: Vec<PathBuf>,
    /// The same of what is written to.
    pub(crate) writes: Vec<PathBuf>,
    /// Nodes, tables and locations of which it cannot be told.
    pub(crate) unknown: Vec<String>,
}

pub(crate) fn reached(plan: &LogicalPlan) -> Reached {
    let mut found = Reached::default();
    found.add(plan);
    found
}

impl Reached {
    fn add(&mut self, plan: &LogicalPlan) {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let paths = self.add_source(&scan.source);
                self.reads.extend(paths);
            }
            // As our sink takes it, literally.
            LogicalPlan::Copy(copy) => match copy.output_url.split_once("://") {
                None => self.writes.push(PathBuf::from(&copy.output_url)),
                Some(_) => match Url::parse(&copy.output_url).map(|url| url.to_file_path()) {
                    Ok(Ok(path)) => self.writes.push(path),
                    _ => self.unknown.push(copy.output_url.clone()),
                },
            },
            LogicalPlan::Dml(dml) => {
                let paths = self.add_source(&dml.target);
                self.writes.extend(paths);
            }
            LogicalPlan::Extension(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::RecursiveQuery(_) => self.unknown.push(plan.to_string()),
            _ => {}
        }
        for input in plan.inputs() {
            self.add(input);
        }
        for expression in plan.expressions() {
            self.add_expression(&expression);
        }
    }

    fn add_expression(&mut self, expression: &Expr) {
        let walked = expression.apply(|inner| {
            match inner {
                Expr::ScalarSubquery(subquery) => self.add(&subquery.subquery),
                Expr::InSubquery(within) => self.add(&within.subquery.subquery),
                Expr::Exists(exists) => self.add(&exists.subquery.subquery),
                Expr::SetComparison(compared) => self.add(&compared.subquery.subquery),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        });
        walked.expect("a walk that never fails");
    }

    /// The files of a table; of an index none.
    fn add_source(&mut self, source: &std::sync::Arc<dyn TableSource>) -> Vec<PathBuf> {
        let Ok(provider) = source_as_provider(source) else {
            self.unknown.push("a table".to_owned());
            return Vec::new();
        };
        let table: &dyn TableProvider = provider.as_ref();
        let table = table as &dyn Any;
        if let Some(table) = table.downcast_ref::<EsTable>() {
            self.add_index(table);
            return Vec::new();
        }
        if let Some(view) = table.downcast_ref::<ViewTable>() {
            self.add(view.logical_plan());
            return Vec::new();
        }
        match table.downcast_ref::<ListingTable>() {
            Some(files) => files.table_paths().iter().filter_map(|url| self.path(url)).collect(),
            None if table.is::<datafusion::datasource::empty::EmptyTable>() => Vec::new(),
            None => {
                self.unknown.push("a table of another kind".to_owned());
                Vec::new()
            }
        }
    }

    /// By the location, as the code that opens it does, not by the URL.
    fn path(&mut self, url: &ListingTableUrl) -> Option<PathBuf> {
        if url.object_store().as_str() != "file:///" {
            self.unknown.push(url.to_string());
            return None;
        }
        Some(PathBuf::from(format!("/{}", url.prefix())))
    }

    fn add_index(&mut self, table: &EsTable) {
        // As it is sent, so that this knows nothing of what admission sees.
        let text = wire::encode_table(table.spec()).expect("a table can be sent");
        let spec: Value = serde_json::from_str(&text).expect("JSON");
        let mut names = vec![spec["index"].clone()];
        for slice in spec["snapshot"]["slices"].as_array().into_iter().flatten() {
            names.push(slice["index"].clone());
            lookups(&slice["filter"], &mut names);
        }
        lookups(&spec["query"], &mut names);
        for name in names {
            let connection = spec["connection"].as_str().unwrap_or_default().to_owned();
            match name {
                Value::String(name) => self.indices.push((connection, name)),
                Value::Array(several) => {
                    let several = several.iter().filter_map(Value::as_str);
                    self.indices.extend(several.map(|name| (connection.clone(), name.to_owned())));
                }
                _ => {}
            }
        }
    }
}

/// Indices that a query reads beside its own.
fn lookups(query: &Value, found: &mut Vec<Value>) {
    match query {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("index" | "_index", Value::String(_) | Value::Array(_)) => found.push(value.clone()),
                    ("indexed_shape", Value::Object(shape)) if !shape.contains_key("index") => {
                        found.push(DEFAULT_SHAPES.into());
                    }
                    // A query in Base64.
                    ("wrapper", Value::Object(wrapped)) if wrapped["query"].is_string() => {
                        found.push(EVERY_INDEX.into());
                    }
                    _ => {}
                }
                lookups(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| lookups(item, found)),
        _ => {}
    }
}
