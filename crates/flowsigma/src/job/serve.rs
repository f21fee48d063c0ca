//! `flowsigma job serve`: all jobs of a folder, until the process gets SIGTERM or Ctrl-C.
//!
//! Owns: the port of probes and metrics, and what stops the server. Must not know: when a window is run.

use super::engine::JobEngine;
use super::setup::make_sinks;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::run::Runner;
use anyhow::Context;
use clap::Args;
use elastic_client::ConnectionRegistry;
use flowsigma_jobs::Store;
use flowsigma_jobs::serve::{
    Clock, MakeSinks, OpenStore, RehearsalClock, ServeOptions, Server, Status, SystemClock, serve_http,
};
use flowsigma_node::Config;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The arguments of `flowsigma job serve`.
#[derive(Args)]
pub(super) struct ServeArgs {
    /// The folder with the job files, each NAME.toml. Changes are noticed within seconds
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Address of /healthz, /readyz and /metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9464")]
    listen: SocketAddr,
    /// Scheduler to submit to, such as http://scheduler.example:50050 [default: a cluster inside
    /// this process]
    #[arg(long, value_name = "URL")]
    scheduler: Option<String>,
    /// Jobs that are run at the same time
    #[arg(long, value_name = "N", default_value = "4")]
    concurrency: NonZeroUsize,
    /// How long windows may still run after SIGTERM or Ctrl-C. The next run begins those again that
    /// have not ended by then
    #[arg(long, value_name = "SECONDS", default_value = "45")]
    drain_timeout_seconds: u64,
    /// Rehearse on past flows: the clock starts at TIME, and SPEED seconds pass in each second, such as
    /// 2026-01-01T00:00:00Z@60. Leases keep the system's clock
    #[arg(long, value_name = "TIME[@SPEED]", value_parser = rehearsal)]
    clock: Option<RehearsalClock>,
}

fn rehearsal(text: &str) -> Result<RehearsalClock, String> {
    let (start, speed) = text.split_once('@').unwrap_or((text, "1"));
    let start =
        start.parse().map_err(|_| format!("expected a time such as 2026-01-01T00:00:00Z, got {start:?}"))?;
    let speed: NonZeroU32 =
        speed.parse().map_err(|_| format!("expected a whole number from 1 behind \"@\", got {speed:?}"))?;
    Ok(RehearsalClock::new(start, speed.get()))
}

/// The durations of the options are those of the system's clock, so a faster clock sees longer ones.
fn options(args: &ServeArgs) -> ServeOptions {
    let speed = args.clock.map_or(1, |clock| clock.speed());
    let ServeOptions { poll, .. } = ServeOptions::default();
    ServeOptions {
        concurrency: args.concurrency,
        drain: Duration::from_secs(args.drain_timeout_seconds).saturating_mul(speed),
        poll: poll.saturating_mul(speed),
        ..ServeOptions::default()
    }
}

/// Serves the jobs of a folder.
pub(super) async fn serve(
    args: ServeArgs,
    config: &Config,
    registry: Arc<ConnectionRegistry>,
    interrupt: Interrupt,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen at {}: choose another address by --listen", args.listen))?;
    // A signal stops the server, which lets windows end: it is not passed on to them.
    let runner =
        Runner::start(Arc::clone(&registry), config, args.scheduler.as_deref(), Interrupt::never()).await?;
    let status = Arc::new(Status::new());
    let stop = CancellationToken::new();
    let http = tokio::spawn(serve_http(listener, Arc::clone(&status), stop.clone().cancelled_owned()));
    let make_sinks: MakeSinks = {
        let registry = Arc::clone(&registry);
        Arc::new(move |job| make_sinks(job, &registry))
    };
    let open_store: OpenStore = Arc::new(|store| Store::open(&store.url, &store.options));
    let options = options(&args);
    tracing::info!(folder = %args.folder.display(), listen = %args.listen, "jobs are served");
    let clock: Arc<dyn Clock> = match args.clock {
        Some(clock) => {
            tracing::warn!(time = %clock.now(), speed = clock.speed(), "this is a rehearsal with a clock of its own");
            Arc::new(clock)
        }
        None => Arc::new(SystemClock),
    };
    let server = Server {
        folder: args.folder,
        engine: Arc::new(JobEngine::new(registry, runner)),
        make_sinks,
        open_store,
        clock,
        options,
        status,
    };
    let running = interrupt.begin();
    let served = server.run(running.interrupted()).await;
    stop.cancel();
    http.await.ok();
    served.map_err(Failure::running)
}
