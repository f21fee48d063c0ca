//! How far a job on executors elsewhere is, as the client shows it.

use crate::golden::{alone, assert_nothing_open, options, servers};
use crate::kill::{Bench, WORK, every_page, nothing};
use ballista_elasticsearch::{Cluster, Job, JobProgress};
use datafusion_elasticsearch::{EsTable, open_contexts};
use elastic_client::{ConnectionConfig, ConnectionRegistry};
use flowsigma_node::Config;
use flowsigma_tests::golden::documents;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_tells_how_many_partitions_and_documents_are_read() {
    for url in servers() {
        let _alone = alone(&url).await;
        let bench = Bench::new(&url, [nothing, every_page]).await;
        let registry = Arc::new(ConnectionRegistry::default());
        registry.insert("prod", &ConnectionConfig::from_url(&url).unwrap()).unwrap();
        let config = Config::default();
        let url = &bench.cluster.scheduler_url;
        let cluster = Cluster::remote(Arc::clone(&registry), &config, url).await.unwrap();
        let table = EsTable::try_new(registry, "prod", "kill", &options(&[("slices", "8")])).await.unwrap();
        cluster.context().register_table("t", Arc::new(table)).unwrap();
        let plan = cluster.context().sql("SELECT * FROM t").await.unwrap().into_unoptimized_plan();
        let (plan, open) = open_contexts(plan).await.unwrap();
        let (job, mut rows) = Job::submit(&cluster, plan).await.unwrap();
        let all = tokio::spawn(async move {
            let mut count = 0;
            while let Some(batch) = rows.next().await {
                count += batch.unwrap().num_rows();
            }
            count
        });

        bench.held(1).await;
        bench.a_task_done().await;
        let deadline = Instant::now() + WORK;
        let some = loop {
            match job.progress().await {
                Some(progress) if progress.done > 0 => break progress,
                last => assert!(Instant::now() < deadline, "{last:?}"),
            }
        };
        assert!(some.done < 8 && some.partitions == 8, "{some:?}");
        assert!(some.documents > 0 && some.documents < documents().len() as u64, "{some:?}");

        bench.release();
        assert_eq!(all.await.unwrap(), documents().len());
        let whole = JobProgress { done: 8, partitions: 8, documents: documents().len() as u64 };
        assert_eq!(job.progress().await, Some(whole));
        open.close().await.unwrap();
        assert_nothing_open(&bench.connection).await;
    }
}
