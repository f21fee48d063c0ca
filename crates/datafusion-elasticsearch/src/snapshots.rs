//! One snapshot for a whole query, however many scans it has.
//!
//! Owns: opening before the plan is submitted, and closing after. Must not know: who executes it.

use crate::error::from_client;
use crate::table::{EsTable, TableSpec};
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{DdlStatement, LogicalPlan, TableScan};
use elastic_client::{
    Connection, KeepAlive, ReadMode, Snapshot, SnapshotKind, SnapshotRequest, close_snapshot,
    close_snapshot_soon, keep_snapshot, open_snapshot,
};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// The snapshots that a query holds open. They are kept alive for as long as this is; dropped
/// without [`OpenSnapshots::close`], they are freed in the background.
#[derive(Debug, Default)]
pub struct OpenSnapshots {
    held: Vec<OpenSnapshot>,
    reads: usize,
}

#[derive(Debug)]
struct OpenSnapshot {
    connection: Arc<Connection>,
    snapshot: Snapshot,
    closed: bool,
    _renewal: AbortOnDropHandle<()>,
}

impl OpenSnapshot {
    fn new(connection: Arc<Connection>, snapshot: Snapshot, keep_alive: KeepAlive) -> Self {
        let renewal = {
            let (connection, snapshot) = (Arc::clone(&connection), snapshot.clone());
            tokio::spawn(async move { keep_snapshot(&connection, &snapshot, keep_alive).await })
        };
        Self { connection, snapshot, closed: false, _renewal: AbortOnDropHandle::new(renewal) }
    }
}

impl Drop for OpenSnapshot {
    fn drop(&mut self) {
        if !self.closed {
            close_snapshot_soon(&self.connection, &self.snapshot);
        }
    }
}

impl OpenSnapshots {
    /// Frees all of them; the first failure is returned after all were tried.
    pub async fn close(mut self) -> Result<()> {
        let mut first = Ok(());
        for open in &mut self.held {
            if let Err(e) = close_snapshot(&open.connection, &open.snapshot).await {
                first = first.and(Err(from_client(e)));
            }
            open.closed = true;
        }
        first
    }

    /// What holds the state, as the coverage names it.
    pub fn describe(&self) -> Option<String> {
        self.held.first().map(|open| open.snapshot.kind.describe().to_owned())
    }

    /// Slices that will be read, over all scans: with two scans of a table, each of its slices twice.
    pub fn reads(&self) -> usize {
        self.reads
    }

    /// Slices over all snapshots.
    pub fn slices(&self) -> usize {
        self.held.iter().map(|open| open.snapshot.slices.len()).sum()
    }
}

fn es_table(scan: &TableScan) -> Option<EsTable> {
    let provider = source_as_provider(&scan.source).ok()?;
    (provider.as_ref() as &dyn std::any::Any).downcast_ref::<EsTable>().cloned()
}

/// How many slices the plan's scans of Elasticsearch tables have together, once [`open_snapshots`] opened
/// them.
pub fn planned_slices(plan: &LogicalPlan) -> Result<usize> {
    let mut slices = 0;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let table = es_table(scan);
            slices += table.and_then(|table| Some(table.spec().snapshot.as_ref()?.len())).unwrap_or(0);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(slices)
}

/// Opens one snapshot for each index that the plan reads, and gives all of its scans that one, each in the
/// slices that its table asks for.
///
/// # Errors
///
/// If a server refuses, or if of two tables over one index one is read by scroll and the other from a point
/// in time: these are two states of it.
pub async fn open_snapshots(plan: LogicalPlan) -> Result<(LogicalPlan, OpenSnapshots)> {
    // What is only kept for later, such as a view, must not keep a snapshot of now.
    if matches!(plan, LogicalPlan::Ddl(DdlStatement::CreateView(_)) | LogicalPlan::Statement(_)) {
        return Ok((plan, OpenSnapshots::default()));
    }
    let mut tables: Vec<EsTable> = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.extend(es_table(scan).filter(|t| t.spec().snapshot.is_none()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut open = OpenSnapshots::default();
    let mut snapshots: HashMap<(String, String), Snapshot> = HashMap::new();
    for table in &tables {
        let key = key(table);
        if snapshots.contains_key(&key) {
            continue;
        }
        let sharing: Vec<&TableSpec> =
            tables.iter().filter(|other| self::key(other) == key).map(EsTable::spec).collect();
        let request = shared_request(table.spec(), &sharing);
        let opened = async {
            let connection = table.registry().get(&table.spec().connection)?;
            let snapshot = open_snapshot(&connection, &request).await?;
            Ok((connection, snapshot))
        };
        match opened.await.map_err(from_client) {
            Ok((connection, snapshot)) => {
                let kind = snapshot.kind;
                open.held.push(OpenSnapshot::new(connection, snapshot.clone(), request.read.keep_alive));
                if let Err(e) = check_reads(kind, &sharing) {
                    open.close().await.ok();
                    return Err(e);
                }
                snapshots.insert(key, snapshot);
            }
            Err(e) => {
                open.close().await.ok();
                return Err(e);
            }
        }
    }
    let slices = |table: &EsTable| Some(snapshots.get(&key(table))?.sliced(table.spec().slices));
    open.reads = tables.iter().filter_map(slices).map(|slices| slices.len()).sum();
    let plan = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let table = es_table(&scan).filter(|table| table.spec().snapshot.is_none());
        let Some((slices, table)) = table.and_then(|table| Some((slices(&table)?, table))) else {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        };
        let mut spec = table.spec().clone();
        spec.snapshot = Some(slices);
        scan.source = provider_as_source(Arc::new(EsTable::from_spec(Arc::clone(table.registry()), spec)));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok((plan.data, open))
}

/// What tables over one index have in common: a state of it.
fn key(table: &EsTable) -> (String, String) {
    (table.spec().connection.clone(), table.spec().index.clone())
}

/// What is opened for all tables that share it: read as the strictest of them says, kept as long as any says.
fn shared_request(first: &TableSpec, sharing: &[&TableSpec]) -> SnapshotRequest {
    let mut request = first.snapshot_request();
    let read = &mut request.read;
    for table in sharing {
        let other = table.read;
        read.keep_alive = read.keep_alive.max(other.keep_alive);
        read.mode = match (read.mode, other.mode) {
            (ReadMode::Pit, _) | (_, ReadMode::Pit) => ReadMode::Pit,
            (ReadMode::Auto, _) | (_, ReadMode::Auto) => ReadMode::Auto,
            (ReadMode::Scroll, ReadMode::Scroll) => ReadMode::Scroll,
        };
    }
    request
}

/// Whether all tables may read from what was opened for them.
fn check_reads(kind: SnapshotKind, sharing: &[&TableSpec]) -> Result<()> {
    let by_scroll = |table: &&&TableSpec| table.read.mode == ReadMode::Scroll;
    match sharing.iter().find(by_scroll) {
        Some(table) if kind != SnapshotKind::Scroll => Err(DataFusionError::Configuration(format!(
            "two tables of one statement over index \"{}\" read two states of it, one from a point in time and \
             one by scroll: give both the same option read",
            table.index
        ))),
        Some(_) | None => Ok(()),
    }
}
