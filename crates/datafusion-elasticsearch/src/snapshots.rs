//! One snapshot for a whole query, however many scans it has.
//!
//! Owns: opening before the plan is submitted, and closing after. Must not know: who executes it.

use crate::error::from_client;
use crate::table::EsTable;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, TableScan};
use elastic_client::{
    Connection, Snapshot, close_snapshot, close_snapshot_soon, keep_snapshot, open_snapshot,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
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
    fn new(connection: Arc<Connection>, snapshot: Snapshot, keep_alive: Duration) -> Self {
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

/// Opens one snapshot for each index that the plan reads, and gives all of its scans that one.
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
    let mut slices = HashMap::new();
    for table in &tables {
        let key = key(table);
        if slices.contains_key(&key) {
            continue;
        }
        let opened = async {
            let connection = table.registry().get(&table.spec().connection)?;
            let snapshot = open_snapshot(&connection, &table.spec().snapshot_request()).await?;
            Ok((connection, snapshot))
        };
        match opened.await {
            Ok((connection, snapshot)) => {
                slices.insert(key, snapshot.slices.clone());
                let keep_alive = Duration::from_millis(table.spec().keep_alive_ms);
                open.held.push(OpenSnapshot::new(connection, snapshot, keep_alive));
            }
            Err(e) => {
                open.close().await.ok();
                return Err(from_client(e));
            }
        }
    }
    open.reads = tables.iter().filter_map(|table| slices.get(&key(table))).map(Vec::len).sum();
    let plan = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let Some(table) = es_table(&scan) else { return Ok(Transformed::no(LogicalPlan::TableScan(scan))) };
        let Some(slices) = slices.get(&key(&table)) else {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        };
        let mut spec = table.spec().clone();
        spec.snapshot = Some(slices.clone());
        scan.source = provider_as_source(Arc::new(EsTable::from_spec(Arc::clone(table.registry()), spec)));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok((plan.data, open))
}

fn key(table: &EsTable) -> String {
    let s = table.spec();
    format!("{}/{}/{}/{:?}", s.connection, s.index, s.read, s.slices)
}
