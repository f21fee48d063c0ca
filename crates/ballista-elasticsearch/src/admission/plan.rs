//! What a plan reads and writes.
//!
//! Owns: the kinds of plan nodes and tables that a cluster runs, and finding what each of them reads and writes.
//! Must not know: the caller.
//!
//! A plan node or a table of a kind that is not listed here is rejected, because it might access anything.

use super::Refusal;
use super::identity::Identity;
use super::paths::{Protected, Roots, resolve};
use crate::copy::target_path;
use datafusion::catalog::TableProvider;
use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::ViewTable;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::listing::{ListingTable, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::object_store::path::Path as Location;
use datafusion_elasticsearch::EsTable;
use datafusion_proto::logical_plan::{AsLogicalPlan, LogicalExtensionCodec};
use datafusion_proto::protobuf::LogicalPlanNode;
use serde_json::Value;
use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The index of a shape lookup whose query names none.
const DEFAULT_SHAPES: &str = "shapes";
/// An index expression that only `indices = ["*"]` covers.
const EVERY_INDEX: &str = "*";

/// What a plan reads and writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The connections, each with an index expression that is read through it.
    pub indices: BTreeSet<(String, String)>,
    /// The files and folders that the plan reads, as it names them.
    pub reads: BTreeSet<PathBuf>,
    /// Which files of each folder are read.
    scans: Vec<FileScan>,
    /// The files and folders that the plan writes to, as it names them.
    pub writes: BTreeSet<PathBuf>,
}

/// Which files a table of files reads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileScan {
    url: ListingTableUrl,
    path: PathBuf,
    extension: String,
}

impl FileScan {
    /// Whether the scan reads a file, given by its resolved path. `folder` is the resolved path of the scan.
    fn reads(&self, folder: &Path, file: &Path) -> bool {
        let Ok(below) = file.strip_prefix(folder) else { return false };
        // A location that cannot be compared counts as read.
        Location::from_absolute_path(self.path.join(below)).map_or(true, |location| {
            location.as_ref().ends_with(&self.extension) && self.url.contains(&location, false)
        })
    }
}

/// Decodes a plan of a client.
///
/// # Errors
///
/// Returns an error if the bytes are not a plan, or a part of the plan is unknown to this process. DataFusion's
/// decoder panics on some bytes; this function returns an error instead.
pub fn decode_plan(
    bytes: &[u8],
    context: &TaskContext,
    codec: &dyn LogicalExtensionCodec,
) -> Result<LogicalPlan, Refusal> {
    let read = || LogicalPlanNode::try_decode(bytes)?.try_into_logical_plan(context, codec);
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(plan)) => Ok(plan),
        Ok(Err(error)) => Err(Refusal::Unsupported(format!("the plan cannot be read: {}", error.message()))),
        Err(_) => Err(Refusal::Unsupported("the plan cannot be read: it is malformed".into())),
    }
}

/// Finds what a plan reads and writes.
///
/// # Errors
///
/// Returns an error if the plan has a plan node or a table of a kind that a cluster does not run.
pub fn reach_of(plan: &LogicalPlan) -> Result<Reach, Refusal> {
    let mut reach = Reach::default();
    let mut refused = None;
    let walked = plan.apply_with_subqueries(|node| {
        Ok(match reach.add_node(node) {
            Ok(()) => TreeNodeRecursion::Continue,
            Err(refusal) => {
                refused = Some(refusal);
                TreeNodeRecursion::Stop
            }
        })
    });
    match (refused, walked) {
        (Some(refusal), _) => Err(refusal),
        (None, Err(error)) => Err(Refusal::Unsupported(format!("the plan cannot be judged: {error}"))),
        (None, Ok(_)) => Ok(reach),
    }
}

impl Reach {
    fn add_node(&mut self, node: &LogicalPlan) -> Result<(), Refusal> {
        let unsupported =
            |operation: &str| Err(Refusal::Unsupported(format!("a cluster does not run {operation}")));
        match node {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Values(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::DescribeTable(_)
            | LogicalPlan::Unnest(_) => Ok(()),
            LogicalPlan::TableScan(scan) => self.add_table(&scan.source),
            LogicalPlan::Copy(copy) => {
                // The sink treats a star as a literal character, and not as a pattern.
                let path = target_path(&copy.output_url).map_err(|e| unreadable(&e))?;
                self.writes.insert(without_percent_sign(path)?);
                Ok(())
            }
            // A retried append would append its rows twice.
            LogicalPlan::Dml(_) => unsupported("INSERT, UPDATE or DELETE: write files by COPY"),
            LogicalPlan::RecursiveQuery(_) => unsupported("recursive queries"),
            LogicalPlan::Ddl(_) | LogicalPlan::Statement(_) => {
                unsupported("statements that only change a session: run them in the client's")
            }
            LogicalPlan::Extension(extension) => {
                unsupported(&format!("plan nodes of the kind \"{}\"", extension.node.name()))
            }
        }
    }

    fn add_table(&mut self, source: &Arc<dyn TableSource>) -> Result<(), Refusal> {
        let provider = source_as_provider(source).map_err(|e| unreadable(&e))?;
        self.add_provider(provider.as_ref())
    }

    fn add_provider(&mut self, provider: &dyn TableProvider) -> Result<(), Refusal> {
        let table = provider as &dyn Any;
        if let Some(table) = table.downcast_ref::<EsTable>() {
            self.add_index(table);
            return Ok(());
        }
        if let Some(files) = table.downcast_ref::<ListingTable>() {
            let paths = paths_of(files)?;
            let extension = &files.options().file_extension;
            self.scans.extend(files.table_paths().iter().zip(&paths).map(|(url, path)| FileScan {
                url: url.clone(),
                path: path.clone(),
                extension: extension.clone(),
            }));
            self.reads.extend(paths);
            return Ok(());
        }
        if let Some(view) = table.downcast_ref::<ViewTable>() {
            let inner = reach_of(view.logical_plan())?;
            self.indices.extend(inner.indices);
            self.reads.extend(inner.reads);
            self.scans.extend(inner.scans);
            self.writes.extend(inner.writes);
            return Ok(());
        }
        if table.is::<EmptyTable>() {
            return Ok(());
        }
        Err(Refusal::Unsupported(
            "a cluster reads tables of indices and of files; this table is of another kind".into(),
        ))
    }

    /// Adds the index expression of the table, that of each of its slices, and those that its query looks up.
    fn add_index(&mut self, table: &EsTable) {
        let spec = table.spec();
        let slices = spec.open_slices.iter().flatten().map(|slice| slice.index.clone());
        let filters = spec.open_slices.iter().flatten().filter_map(|slice| slice.filter.as_ref());
        let mut looked_up = Vec::new();
        find_indices(&spec.query, &mut looked_up);
        filters.for_each(|filter| find_indices(filter, &mut looked_up));
        let all = [spec.index.clone()].into_iter().chain(slices).chain(looked_up);
        self.indices.extend(all.map(|index| (spec.connection.clone(), index)));
    }

    /// Rejects a plan that reads or writes what is not granted to `identity`, or a protected file.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first thing that is not granted, and the key that would grant it.
    pub fn judge(&self, identity: &Identity, protected: &Protected) -> Result<(), Refusal> {
        let Identity { name, grants, .. } = identity;
        let forbidden = |operation: String, key: &str| {
            Err(Refusal::Forbidden(format!(
                "\"{name}\" may not {operation}: grant it by \"{key}\" of [access.{name}] in the scheduler's flowsigma.toml"
            )))
        };
        for (connection, index) in &self.indices {
            if !grants.covers_connection(connection) {
                return forbidden(format!("use the connection \"{connection}\""), "connections");
            }
            if !grants.covers_index(index) {
                return forbidden(format!("read the index \"{index}\""), "indices");
            }
        }
        for scan in &self.scans {
            // A path that cannot be resolved is rejected below.
            let Ok(folder) = resolve(&scan.path) else { continue };
            if let Some(file) = protected.files().find(|file| scan.reads(&folder, file)) {
                return Err(Refusal::Forbidden(format!(
                    "no job may read {}: it contains {}, which is configuration, a secret or a system folder",
                    scan.path.display(),
                    file.strip_prefix(&folder).unwrap_or(file).display()
                )));
            }
        }
        let (read, write) = (Roots::resolved(&grants.read), Roots::resolved(&grants.write));
        for (paths, roots, operation, key) in
            [(&self.reads, &read, "read", "read"), (&self.writes, &write, "write to", "write")]
        {
            for path in paths {
                let shown = path.display();
                let resolved = resolve(path).map_err(|e| {
                    Refusal::Forbidden(format!("{operation} {shown}: the path is refused: {e}"))
                })?;
                if protected.covers(&resolved) {
                    return Err(Refusal::Forbidden(format!(
                        "no job may {operation} {shown}: it is configuration, a secret or a system folder"
                    )));
                }
                if !roots.cover(&resolved) {
                    return forbidden(format!("{operation} {shown}"), key);
                }
            }
        }
        Ok(())
    }
}

fn unreadable(error: &DataFusionError) -> Refusal {
    Refusal::Unsupported(format!("the plan cannot be judged: {error}"))
}

fn paths_of(files: &ListingTable) -> Result<Vec<PathBuf>, Refusal> {
    files.table_paths().iter().map(local_path).collect()
}

/// Returns the path of the URL as the object store of the local file system does: decoded once.
fn local_path(url: &ListingTableUrl) -> Result<PathBuf, Refusal> {
    let url = url.get_url();
    let refused = || {
        Refusal::Unsupported(format!(
            "a cluster reads and writes only files of its executors, not locations of the scheme \"{}\"",
            // The message shows only the scheme, because the URL may contain credentials.
            url.scheme()
        ))
    };
    if url.scheme() != "file" {
        return Err(refused());
    }
    without_percent_sign(url.to_file_path().map_err(|()| refused())?)
}

/// Object stores decode a path once, and some of them twice.
fn without_percent_sign(path: PathBuf) -> Result<PathBuf, Refusal> {
    match path.as_os_str().as_encoded_bytes().contains(&b'%') {
        true => {
            Err(Refusal::Unsupported("a cluster does not read or write a path with a percent sign".into()))
        }
        false => Ok(path),
    }
}

/// Finds the indices that a query names in addition to its own: in lookups of terms or shapes, in `more_like_this`
/// documents, and as `_index`. A `wrapper` query in Base64 may name any index.
fn find_indices(query: &Value, found: &mut Vec<String>) {
    match query {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("index" | "_index", Value::String(index)) => found.push(index.clone()),
                    ("index" | "_index", Value::Array(indices)) => {
                        found.extend(indices.iter().filter_map(|index| index.as_str().map(str::to_owned)));
                    }
                    ("indexed_shape", Value::Object(shape)) if !shape.contains_key("index") => {
                        found.push(DEFAULT_SHAPES.to_owned());
                    }
                    ("wrapper", Value::Object(wrapped))
                        if wrapped.get("query").is_some_and(Value::is_string) =>
                    {
                        found.push(EVERY_INDEX.to_owned());
                    }
                    _ => {}
                }
                find_indices(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| find_indices(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ballista_core::serde::BallistaLogicalExtensionCodec;
    use datafusion::arrow::datatypes::Schema;
    use datafusion::prelude::{CsvReadOptions, SessionContext};
    use datafusion_proto::protobuf::listing_table_scan_node::FileFormatType;
    use datafusion_proto::protobuf::logical_plan_node::LogicalPlanType;
    use datafusion_proto::protobuf::{AvroFormat, ListingTableScanNode};
    use flowsigma_node::{Config, Grants, Role};
    use prost::Message;
    use serde_json::json;

    fn identity(grants: Grants) -> Identity {
        Identity { name: "alice".into(), role: Role::Client, grants, by_certificate: true, submits: true }
    }

    async fn plan(sql: &str, folder: &std::path::Path) -> LogicalPlan {
        let context = SessionContext::new();
        let file = folder.join("in/flows.csv");
        context.register_csv("flows", file.to_str().unwrap(), CsvReadOptions::new()).await.unwrap();
        context.state().create_logical_plan(sql).await.unwrap()
    }

    #[tokio::test]
    async fn files_are_judged_by_where_they_lead() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("in")).unwrap();
        std::fs::create_dir(base.join("out")).unwrap();
        std::fs::write(base.join("in/flows.csv"), "a\n1\n").unwrap();
        std::os::unix::fs::symlink(base.join("in"), base.join("out/link")).unwrap();
        std::fs::create_dir(base.join("out/*")).unwrap();
        let may = identity(Grants {
            read: vec![base.join("in")],
            write: vec![base.join("out")],
            ..Grants::default()
        });
        let judge = |reach: Reach, identity: &Identity| reach.judge(identity, &Protected::default());
        let read = plan("SELECT * FROM flows WHERE a > (SELECT min(a) FROM flows)", &base).await;
        assert_eq!(judge(reach_of(&read).unwrap(), &may), Ok(()));
        let none = judge(reach_of(&read).unwrap(), &identity(Grants::default())).unwrap_err().to_string();
        assert!(none.contains("\"alice\" may not read") && none.contains("[access.alice]"), "{none}");
        for (target, granted) in [
            ("out/x.csv", true),
            ("out/new/", true),
            ("in/x.csv", false),
            ("out/../in/x.csv", false),
            ("out/%2e%2e/in/x.csv", false),
            ("out/link/x.csv", false),
            ("out/*/../../in/x.csv", false),
        ] {
            let copy = format!("COPY (SELECT 1) TO '{}/{target}' STORED AS CSV", base.display());
            let reach = reach_of(&plan(&copy, &base).await);
            assert_eq!(reach.and_then(|reach| judge(reach, &may)).is_ok(), granted, "{target}");
        }
        let everything = identity(Grants::everything());
        // A folder with a protected file is read only if the scan does not read that file.
        let config = Config { file: Some(base.join("in/flowsigma.toml")), ..Config::default() };
        std::fs::write(base.join("in/flowsigma.toml"), "").unwrap();
        for (options, granted) in
            [(CsvReadOptions::new(), true), (CsvReadOptions::new().file_extension(""), false)]
        {
            let context = SessionContext::new();
            context.register_csv("folder", base.join("in").to_str().unwrap(), options).await.unwrap();
            let plan = context.state().create_logical_plan("SELECT * FROM folder").await.unwrap();
            let judged = reach_of(&plan).unwrap().judge(&everything, &Protected::by(&config));
            assert_eq!(judged.is_ok(), granted, "{judged:?}");
        }
        let environment = Reach { reads: [PathBuf::from("/proc/self/environ")].into(), ..Reach::default() };
        assert!(environment.judge(&everything, &Protected::by(&Default::default())).is_err());
    }

    #[tokio::test]
    async fn what_is_not_known_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in/flows.csv"), "a\n1\n").unwrap();
        for sql in [
            "CREATE TABLE t AS SELECT 1",
            "SET datafusion.execution.batch_size = 1",
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT * FROM n",
            "SELECT * FROM generate_series(1, 3)",
        ] {
            assert!(reach_of(&plan(sql, folder.path()).await).is_err(), "{sql}");
        }
    }

    #[test]
    fn bytes_at_which_their_reader_panics_are_no_plan() {
        let avro = FileFormatType::Avro(AvroFormat {});
        let schema = (&Schema::empty()).try_into().unwrap();
        let scan = ListingTableScanNode {
            file_format_type: Some(avro),
            schema: Some(schema),
            ..ListingTableScanNode::default()
        };
        let node = LogicalPlanNode { logical_plan_type: Some(LogicalPlanType::ListingScan(scan)) };
        let codec = BallistaLogicalExtensionCodec::default();
        for bytes in [node.encode_to_vec(), b"no plan".to_vec(), Vec::new()] {
            let refused = decode_plan(&bytes, &TaskContext::default(), &codec).unwrap_err().to_string();
            assert!(refused.starts_with("the plan cannot be read: "), "{refused}");
        }
    }

    #[test]
    fn a_query_names_the_indices_that_it_looks_up() {
        let mut found = Vec::new();
        find_indices(
            &json!({ "bool": { "filter": [
                { "terms": { "user": { "index": "users", "id": "1", "path": "name" } } },
                { "geo_shape": { "place": { "indexed_shape": { "index": "shapes", "id": "x" } } } },
                { "more_like_this": { "like": [{ "_index": "texts", "_id": "1" }] } },
                { "term": { "netflow.index": "no lookup" } },
                { "term": { "_index": "flows-1" } },
                { "geo_shape": { "place": { "indexed_shape": { "id": "x" } } } },
                { "wrapper": { "query": "eyJtYXRjaF9hbGwiOnt9fQ==" } },
            ] } }),
            &mut found,
        );
        assert_eq!(found, ["users", "shapes", "texts", "flows-1", "shapes", "*"]);
    }
}
