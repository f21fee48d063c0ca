//! The checks of an executor before it runs a task.
//!
//! Owns: the kinds of plan nodes that an executor runs, and finding the files that each of them reads and writes.
//! Must not know: who submitted the job, or which paths are allowed ([`FileAccess`]).
//!
//! The scheduler has admitted the job by its logical plan, but an executor does not rely on that. A plan node of a
//! kind that is not listed here fails the task, because it might access anything.

use crate::admission::resolve;
use crate::checked_files::{check_scheme, path_of};
use crate::copy::{CopySink, target_path};
use crate::file_access::FileAccess;
use ballista_core::execution_plans::{RangeShuffleReaderExec, ShuffleReaderExec};
use ballista_core::serde::scheduler::PartitionLocation;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::file_format::csv::CsvSink;
use datafusion::datasource::file_format::json::JsonSink;
use datafusion::datasource::file_format::parquet::ParquetSink;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSink, FileSinkConfig};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::object_store::path::Path as Location;
use datafusion::physical_plan::ExecutionPlan;
use std::path::{Component, Path};
use std::sync::Arc;

/// Plan nodes that work only on the rows of their children, or on rows in the plan. [`TaskGuard::check_node`]
/// checks each kind that reads or writes elsewhere.
const PLAIN_NODES: &[&str] = &[
    // DataFusion's plan nodes.
    "AggregateExec",
    "AnalyzeExec",
    "BoundedWindowAggExec",
    "BufferExec",
    "CoalesceBatchesExec",
    "CoalescePartitionsExec",
    "CooperativeExec",
    "CrossJoinExec",
    "EmptyExec",
    "ExplainExec",
    "FilterExec",
    "GlobalLimitExec",
    "HashJoinExec",
    "InterleaveExec",
    "LocalLimitExec",
    "NestedLoopJoinExec",
    "PartialSortExec",
    "PartitionedTopKExec",
    "PlaceholderRowExec",
    "ProjectionExec",
    "RepartitionExec",
    "ScalarSubqueryExec",
    "SortExec",
    "SortExec(TopK)",
    "SortMergeJoinExec",
    "SortPreservingMergeExec",
    "SymmetricHashJoinExec",
    "UnionExec",
    "UnnestExec",
    "WindowAggExec",
    // Ballista's plan nodes.
    "OrderedRangeRepartitionExec",
    "PartitionedBoundedWindowAggExec",
    "PerPartitionFilterExec",
    "PrefixMergeExec",
    "RangeFilterExec",
    "RangeShuffleWriterExec",
    "RuntimeStatsExec",
    "ShuffleWriterExec",
    "SortShuffleWriterExec",
    "UnorderedRangeRepartitionExec",
    // The scan of this workspace, and the aggregate over it. They read through a connection in the configuration of this
    // process.
    "EsAggregateExec",
    "EsScanExec",
];

/// Checks tasks before they run.
#[derive(Clone, Debug)]
pub struct TaskGuard {
    access: FileAccess,
}

impl TaskGuard {
    /// Creates a guard that lets tasks read and write the files that `access` allows.
    pub fn new(access: FileAccess) -> Self {
        Self { access }
    }

    /// Checks all plan nodes of a plan.
    ///
    /// # Errors
    ///
    /// Returns an error if a plan node is of an unknown kind, or reads or writes a file that tasks may not.
    pub fn check(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
        let walked = plan.apply(|node| self.check_node(node).map(|()| TreeNodeRecursion::Continue));
        walked.map(|_| ())
    }

    /// Rejects a job id that is not a plain file name, because rows are in a folder of that name.
    pub(crate) fn check_job(&self, job: &str) -> Result<()> {
        let mut parts = Path::new(job).components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(_)), None) if !job.contains(['/', '\0']) => Ok(()),
            _ => Err(refused(format!("\"{job}\" is not a job id"))),
        }
    }

    fn check_node(&self, node: &Arc<dyn ExecutionPlan>) -> Result<()> {
        match node.name() {
            "DataSourceExec" => self.check_source(expected(node)?),
            "DataSinkExec" => self.check_sink(expected::<DataSinkExec>(node)?.sink()),
            "ShuffleReaderExec" => self.check_locations(&expected::<ShuffleReaderExec>(node)?.partition),
            "RangeShuffleReaderExec" => {
                self.check_locations(&expected::<RangeShuffleReaderExec>(node)?.partition)
            }
            name if PLAIN_NODES.contains(&name) => Ok(()),
            name => Err(refused(format!("executors do not run plan nodes of the kind \"{name}\""))),
        }
    }

    fn check_source(&self, source: &DataSourceExec) -> Result<()> {
        let source = source.data_source();
        if source.is::<MemorySourceConfig>() {
            return Ok(());
        }
        let Some(files) = source.downcast_ref::<FileScanConfig>() else {
            return Err(refused("executors read files and indices; a source of the plan is neither".into()));
        };
        check_scheme(files.object_store_url.as_ref())?;
        for file in files.file_groups.iter().flat_map(|group| group.files()) {
            self.check_location(&file.object_meta.location, |access, path| access.check_read(path))?;
        }
        Ok(())
    }

    fn check_sink(&self, sink: &dyn DataSink) -> Result<()> {
        if let Some(copy) = sink.downcast_ref::<CopySink>() {
            return self.check_copy(&target_path(copy.spec().location())?);
        }
        let csv = sink.downcast_ref::<CsvSink>().map(FileSink::config);
        let json = || sink.downcast_ref::<JsonSink>().map(FileSink::config);
        let parquet = || sink.downcast_ref::<ParquetSink>().map(FileSink::config);
        let Some(FileSinkConfig { object_store_url, table_paths, .. }) = csv.or_else(json).or_else(parquet)
        else {
            return Err(refused(
                "executors write CSV, JSON and Parquet files; a sink of the plan does not".into(),
            ));
        };
        if table_paths.is_empty() {
            return Err(refused("a sink of the plan names no file".into()));
        }
        for path in table_paths {
            // The store of `object_store_url` writes to the path of `table_paths`.
            check_scheme(path.get_url())?;
            self.check_output(object_store_url, path.prefix())?;
        }
        Ok(())
    }

    /// A COPY writes into a hidden folder beside its target, and renames that folder.
    fn check_copy(&self, target: &Path) -> Result<()> {
        let external = |e| DataFusionError::External(Box::new(e));
        self.access.check_write(target).map_err(external)?;
        match resolve(target) {
            Ok(target) => self.access.check_write(&target.with_file_name(".flowsigma")).map_err(external),
            Err(error) => Err(refused(format!("COPY to {}: {error}", target.display()))),
        }
    }

    /// Rejects a file or folder that tasks may not write to.
    pub(crate) fn check_output(&self, store: &ObjectStoreUrl, location: &Location) -> Result<()> {
        check_scheme(store.as_ref())?;
        self.check_location(location, |access, path| access.check_write(path))
    }

    fn check_location<E: std::error::Error + Send + Sync + 'static>(
        &self,
        location: &Location,
        check: impl FnOnce(&FileAccess, &Path) -> std::result::Result<(), E>,
    ) -> Result<()> {
        let path = path_of(&LocalFileSystem::new(), location)?;
        check(&self.access, &path).map_err(|e| DataFusionError::External(Box::new(e)))
    }

    /// Rows of other tasks are requested by job id. For local rows, the id names the folder.
    fn check_locations(&self, partitions: &[Vec<PartitionLocation>]) -> Result<()> {
        partitions
            .iter()
            .flatten()
            .try_for_each(|location| self.check_job(location.partition_id.job_id.as_str()))
    }
}

/// Casts the plan node to the type that its name claims.
fn expected<T: ExecutionPlan>(node: &Arc<dyn ExecutionPlan>) -> Result<&T> {
    node.downcast_ref::<T>()
        .ok_or_else(|| refused(format!("a plan node is called \"{}\" and is of another kind", node.name())))
}

fn refused(operation: String) -> DataFusionError {
    DataFusionError::Plan(operation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_access::tests::folders;
    use ballista_core::execution_plans::UnresolvedShuffleExec;
    use ballista_core::serde::scheduler::{ExecutorMetadata, PartitionId, PartitionStats};
    use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use datafusion::datasource::listing::PartitionedFile;
    use datafusion::datasource::physical_plan::FileGroup;
    use datafusion::physical_plan::Partitioning;
    use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
    use datafusion::prelude::{CsvReadOptions, SessionConfig, SessionContext};

    /// Returns the plan of a statement over the table `flows`, which reads `file`.
    async fn plan(sql: &str, file: &Path) -> Arc<dyn ExecutionPlan> {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        let any_name = CsvReadOptions::new().file_extension("");
        context.register_csv("flows", file.to_str().unwrap(), any_name).await.unwrap();
        context.sql(sql).await.unwrap().create_physical_plan().await.unwrap()
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]))
    }

    /// Returns a plan that reads rows of the job `job` on another executor.
    fn shuffled(job: &str) -> Arc<dyn ExecutionPlan> {
        let location = PartitionLocation {
            map_partition_id: 0,
            partition_id: PartitionId { job_id: job.into(), stage_id: 1, partition_id: 0 },
            executor_meta: ExecutorMetadata {
                id: "e".into(),
                host: "a.example".into(),
                port: 1,
                grpc_port: 2,
                specification: Default::default(),
                os_info: Default::default(),
            },
            partition_stats: PartitionStats::default(),
            file_id: None,
            is_sort_shuffle: false,
        };
        let partitioning = Partitioning::UnknownPartitioning(1);
        let reader = ShuffleReaderExec::try_new(1, vec![vec![location]], schema(), partitioning).unwrap();
        Arc::new(CoalescePartitionsExec::new(Arc::new(reader)))
    }

    #[tokio::test]
    async fn files_are_read_and_written_below_roots_alone() {
        let (_folder, base, access) = folders();
        let guard = TaskGuard::new(access);
        for (path, allowed) in [
            ("in/a.csv", true),
            ("both/a.csv", true),
            ("in/own.csv", true),
            ("secret/a.csv", false),
            ("in/linked.csv", false),
            ("in/link/a.csv", false),
            ("in/../secret/a.csv", false),
            // A folder with a link to a file elsewhere.
            ("in", false),
        ] {
            for sql in [
                "SELECT * FROM flows",
                "SELECT count(*) FROM flows GROUP BY a HAVING count(*) > (SELECT min(1) FROM flows)",
            ] {
                let checked = guard.check(&plan(sql, &base.join(path)).await);
                assert_eq!(checked.is_ok(), allowed, "{path}: {checked:?}");
            }
        }
        let source = base.join("in/a.csv");
        for (path, allowed) in [
            ("out/b.csv", true),
            ("out/new/", true),
            // A folder with that name.
            ("out/%2e%2e/secret/b.csv", true),
            ("in/b.csv", false),
            ("secret/b.csv", false),
            ("out/linked.csv", false),
            ("out/link/b.csv", false),
            ("out/../secret/b.csv", false),
        ] {
            for format in ["CSV", "JSON", "PARQUET"] {
                let sql = format!("COPY flows TO '{}/{path}' STORED AS {format}", base.display());
                let checked = guard.check(&plan(&sql, &source).await);
                assert_eq!(checked.is_ok(), allowed, "{path}: {checked:?}");
            }
        }
        // In a URL, it is the parent folder.
        let sql = format!("COPY flows TO 'file://{}/out/%2e%2e/secret/b.csv' STORED AS CSV", base.display());
        assert!(guard.check(&plan(&sql, &source).await).is_err());
        // In an embedded cluster, tasks may do what the process may.
        let everything = TaskGuard::new(FileAccess::Everything);
        everything.check(&plan("SELECT * FROM flows", &base.join("secret/a.csv")).await).unwrap();
    }

    /// Returns a scan of one file that a handmade plan could contain.
    async fn scan(store: &str, location: &str) -> Arc<dyn ExecutionPlan> {
        let (_folder, base, _) = folders();
        let plan = plan("SELECT * FROM flows", &base.join("in/a.csv")).await;
        let source = plan.downcast_ref::<DataSourceExec>().unwrap().data_source();
        let mut files = source.downcast_ref::<FileScanConfig>().unwrap().clone();
        files.object_store_url = ObjectStoreUrl::parse(store).unwrap();
        files.file_groups = vec![FileGroup::new(vec![PartitionedFile::new(location, 10)])];
        DataSourceExec::from_data_source(files)
    }

    #[tokio::test]
    async fn neither_an_environment_nor_a_server_is_a_file() {
        let owner = TaskGuard::new(FileAccess::of(&flowsigma_node::Config::default(), true));
        owner.check(&scan("file://", "etc/hostname").await).unwrap();
        for path in ["proc/self/environ", "dev/fd/3", "sys/kernel"] {
            let refused = owner.check(&scan("file://", path).await).unwrap_err().to_string();
            assert!(refused.contains("configuration, a secret or a system folder"), "{refused}");
        }
        for store in ["http://127.0.0.1:9200", "https://example.org", "s3://bucket", "file://host"] {
            let refused = owner.check(&scan(store, "etc/hostname").await).unwrap_err().to_string();
            assert!(refused.contains("of their executor"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_node_of_an_unknown_kind_is_named() {
        let guard = TaskGuard::new(FileAccess::Everything);
        let unresolved = UnresolvedShuffleExec::new(1, schema(), Partitioning::UnknownPartitioning(1));
        let below: Arc<dyn ExecutionPlan> = Arc::new(CoalescePartitionsExec::new(Arc::new(unresolved)));
        let error = guard.check(&below).unwrap_err().to_string();
        assert!(error.contains("\"UnresolvedShuffleExec\""), "{error}");
        let (_folder, base, _) = folders();
        let series = plan("SELECT * FROM generate_series(1, 3)", &base.join("in/a.csv")).await;
        let error = guard.check(&series).unwrap_err().to_string();
        assert!(error.contains("\"LazyMemoryExec\""), "{error}");
        // All plan nodes of SQL statements are known.
        for sql in [
            "SELECT a, count(*), sum(count(*)) OVER () FROM flows GROUP BY a ORDER BY a LIMIT 3",
            "SELECT a.a FROM flows a FULL JOIN flows b ON a.a = b.a UNION SELECT '1'",
            "SELECT a.a FROM flows a, flows b WHERE a.a < b.a",
            "SELECT rank() OVER (PARTITION BY a ORDER BY a) FROM flows",
            "SELECT unnest([1, 2]), a FROM flows WHERE a IN (SELECT a FROM flows) OFFSET 1",
            "SELECT * FROM (VALUES (1), (2)) v WHERE 1 = 0",
            "EXPLAIN ANALYZE SELECT 1",
            "EXPLAIN SELECT 1",
        ] {
            guard.check(&plan(sql, &base.join("in/a.csv")).await).expect(sql);
        }
    }

    #[test]
    fn a_copy_stays_below_a_root_with_what_it_writes_meanwhile() {
        let (_folder, base, access) = folders();
        std::fs::create_dir(base.join("out/*")).unwrap();
        let guard = TaskGuard::new(access);
        for path in ["out/b.csv", "out/new", "out/new/b.csv"] {
            guard.check_copy(&base.join(path)).expect(path);
        }
        for path in ["out", "in/b.csv", "out/link/b.csv", "out/*/../../secret/b.csv", "secret/into.csv"] {
            assert!(guard.check_copy(&base.join(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn rows_are_those_of_a_job() {
        let guard = TaskGuard::new(FileAccess::Everything);
        guard.check(&shuffled("4f1Kx2a")).unwrap();
        for job in ["", ".", "..", "../other", "/etc", "a/b", "a/", "a/."] {
            assert!(guard.check(&shuffled(job)).is_err(), "{job}");
            assert!(guard.check_job(job).is_err(), "{job}");
        }
    }
}
