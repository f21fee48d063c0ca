//! The course of a job through the hours of a plan.
//!
//! Owns: what is done at which hour, and what must be true at the end. Must not know: how many hours there are.

use super::killing::{Counted, Counter, Ended, Moment};
use super::{Kept, Plan};
use crate::jobs::bench::{JobFolder, JobText, Patience};
use crate::jobs::flows::{Flows, HOUR, Planted, delete, millis, time};
use crate::jobs::place::{CREDENTIALS, Place, alerts, findings, s3};
use elastic_client::Connection;
use flowsigma_tests::cluster::free_ports;
use flowsigma_tests::golden::count_open_contexts;
use flowsigma_tests::proxy::{Fault, Proxy};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const JOB: &str = "hourly";
const ALERTS: &str = "chaos-alerts";
/// Seconds of the servers' clock in a second. Their poll interval, 5 s, is as long as two windows then.
const SPEED: i64 = 1_440;
/// Ten minutes at that speed. What arrives after it is not found, so a slow machine must load late documents before.
const RECHECK: &str = "240h";
/// Runs that may end before the moment at which they would have been killed.
const ATTEMPTS: usize = 40;
/// Objects that a run of one window writes, without those of its lease.
const OBJECTS: usize = 4;

/// A job, its server, its sink and its store, and proxies before them.
pub(super) struct Course {
    url: String,
    connection: Arc<Connection>,
    plan: Plan,
    rng: StdRng,
    flows: Flows,
    start: i64,
    folder: JobFolder,
    place: Place,
    kept: Kept,
    counter: Counter,
    is_down: Arc<AtomicBool>,
    is_refusing: Arc<AtomicBool>,
    /// Requests of the last run that was not killed.
    requests: usize,
    _proxies: Vec<Proxy>,
}

impl Course {
    pub(super) async fn new(
        url: &str,
        connection: &Arc<Connection>,
        plan: Plan,
        kept: Kept,
        mut rng: StdRng,
    ) -> Self {
        delete(connection, ALERTS).await;
        let start = millis("2026-03-01T00:00:00Z");
        let mut flows = Flows::new(connection, "chaos").await;
        for hour in 0..plan.hours {
            let is_chosen = plan.late.contains(&hour) || hour == plan.refused;
            let planted = if is_chosen { Planted::BOTH } else { Planted::random(&mut rng) };
            flows.load_window(start + hour * HOUR, HOUR, planted, &mut rng).await;
        }

        let counter = Counter::default();
        let (is_down, is_refusing) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let source = Proxy::start(url, {
            let (counter, is_down) = (counter.clone(), Arc::clone(&is_down));
            let mut refused = 0;
            move |_| match (counter.request(), is_down.load(Ordering::SeqCst)) {
                (true, _) => Fault::Close,
                (false, false) => Fault::None,
                (false, true) => {
                    refused += 1;
                    if refused % 2 == 0 { Fault::Reset } else { Fault::status(503, "unavailable") }
                }
            }
        });
        let sink = Proxy::start(url, {
            let (counter, is_refusing) = (counter.clone(), Arc::clone(&is_refusing));
            move |_| match (counter.request(), is_refusing.load(Ordering::SeqCst)) {
                (true, _) => Fault::Close,
                (false, false) => Fault::None,
                (false, true) => Fault::status(403, "security_exception"),
            }
        });
        let (source, sink) = (source.await.unwrap(), sink.await.unwrap());
        let folder = JobFolder::new(&[("prod", &source.url), ("alerts", &sink.url)]);
        let folder = folder.with_environment(&CREDENTIALS);
        let mut proxies = vec![source, sink];
        let place = match kept {
            Kept::Folder => Place::folder(&folder.path("store")),
            Kept::Bucket => {
                let counter = counter.clone();
                let fault = move |_: &_| if counter.request() { Fault::Close } else { Fault::None };
                let proxy = Proxy::start(&s3(), fault).await.unwrap();
                let place = Place::bucket(&proxy.url).await;
                proxies.push(proxy);
                place
            }
        };
        let window =
            format!("every = \"1h\"\ndelay = \"5m\"\nrecheck = \"{RECHECK}\"\nfrom = \"{}\"", time(start));
        let sink = format!("[[sinks]]\ntype = \"index\"\nconnection = \"alerts\"\nindex = \"{ALERTS}\"");
        let sections = [place.section.as_str(), sink.as_str()];
        let text = JobText { name: JOB, index: "chaos", window: &window, sections: &sections };
        folder.write(JOB, &text.text());
        Self {
            url: url.into(),
            connection: Arc::clone(connection),
            plan,
            rng,
            flows,
            start,
            folder,
            place,
            kept,
            counter,
            is_down,
            is_refusing,
            requests: 10,
            _proxies: proxies,
        }
    }

    /// Returns the time at which an hour is due.
    fn due(&self, hour: i64) -> String {
        time(self.start + (hour + 1) * HOUR + HOUR / 12)
    }

    /// The first instant after the last hour.
    fn end(&self) -> i64 {
        self.start + self.plan.hours * HOUR
    }

    fn log(&self) -> String {
        self.folder.log("run.log")
    }

    /// Runs the job at a time, and kills it at a moment.
    async fn run(&self, now: &str, moment: Option<Moment>) -> Ended {
        let before = self.place.paths().await.len();
        let process = self.counter.with(|counted| {
            let process = self.folder.start(JOB, &["run", "--now", now], "run.log");
            let id = process.id();
            let kill_at = match moment {
                Some(Moment::Request(request)) => Some(request),
                Some(Moment::Objects(_)) | None => None,
            };
            *counted = Counted { requests: 0, kill_at, process: Some(process) };
            id
        });
        let patience = Patience::new("the end of a run");
        loop {
            let ended = self.counter.with(|counted| {
                let status = counted.process.as_mut()?.try_wait().unwrap()?;
                counted.process = None;
                Some(Ended { status, process, requests: counted.requests })
            });
            if let Some(ended) = ended {
                return ended;
            }
            if let Some(Moment::Objects(objects)) = moment
                && self.place.paths().await.len() >= before + objects
            {
                let kill = |counted: &mut Counted| counted.process.as_mut().map(Child::kill);
                self.counter.with(kill);
            }
            patience.pause().await;
        }
    }

    /// Runs the job until it is killed at a random moment.
    async fn kill_a_run(&mut self, now: &str) {
        let (mut requests, mut objects) = (self.requests, OBJECTS);
        for _ in 0..ATTEMPTS {
            // The listing of a bucket is a request that the run's own ones wait for.
            let by_objects = self.kept == Kept::Folder && self.rng.random_bool(0.4);
            let moment = match by_objects {
                true => Moment::Objects(self.rng.random_range(1..=objects)),
                false => Moment::Request(self.rng.random_range(1..=requests)),
            };
            let ended = self.run(now, Some(moment)).await;
            if ended.was_killed() {
                println!("{now}: killed at {moment:?}");
                return self.end_lease(ended.process, now).await;
            }
            // It had less to do.
            match moment {
                Moment::Request(_) => requests = ended.requests.max(1),
                Moment::Objects(_) => objects = (objects - 1).max(1),
            }
        }
        panic!("{ATTEMPTS} runs were not killed: {}", self.log());
    }

    /// Waits for the end of a killed run's lease, or ends it.
    async fn end_lease(&mut self, process: u32, now: &str) {
        if self.plan.waits == 0 {
            self.place.end_lease(JOB, process).await;
            return;
        }
        self.plan.waits -= 1;
        let patience = Patience::new("the end of a killed run's lease");
        while self.run(now, None).await.status.code() == Some(3) {
            patience.pause().await;
        }
    }

    async fn run_to_the_end(&mut self, now: &str, expected: i32) {
        let ended = self.run(now, None).await;
        assert_eq!(ended.status.code(), Some(expected), "{now}: {}", self.log());
        self.requests = ended.requests.max(1);
    }

    /// Runs the first hours as a timer would, each at its time.
    pub(super) async fn run_by_hand(&mut self) {
        let mut kills = BTreeMap::<i64, usize>::new();
        for _ in 0..self.plan.kills {
            let hour = loop {
                let hour = self.rng.random_range(0..self.plan.served);
                if !self.plan.down.contains(&hour) {
                    break hour;
                }
            };
            *kills.entry(hour).or_default() += 1;
        }
        for hour in 0..self.plan.served {
            let now = self.due(hour);
            if hour == self.plan.late[0] + 2 {
                let start = self.start + self.plan.late[0] * HOUR;
                self.flows.load_late(start, HOUR, &mut self.rng).await;
            }
            if self.plan.down.contains(&hour) {
                self.is_down.store(true, Ordering::SeqCst);
                self.run_to_the_end(&now, 1).await;
                self.is_down.store(false, Ordering::SeqCst);
                assert_eq!(self.state(hour), json!("failed"), "{}", self.log());
                continue;
            }
            if hour == self.plan.refused {
                self.is_refusing.store(true, Ordering::SeqCst);
                self.run_to_the_end(&now, 4).await;
                self.is_refusing.store(false, Ordering::SeqCst);
                assert_eq!(self.state(hour), json!("owed"), "{}", self.log());
            }
            for _ in 0..kills.remove(&hour).unwrap_or(0) {
                self.kill_a_run(&now).await;
            }
            self.run_to_the_end(&now, 0).await;
            assert_eq!(self.state(hour), json!("done"), "{}", self.log());
        }
        assert!(kills.is_empty(), "{kills:?}");
    }

    fn state(&self, hour: i64) -> Value {
        self.folder.windows(JOB, &self.due(hour))[hour as usize]["state"].clone()
    }

    /// Runs the other hours by two servers of jobs, which are killed and started again.
    pub(super) async fn serve(&mut self) {
        let began = Instant::now();
        let begin = self.start + self.plan.served * HOUR;
        let clock = || {
            let passed = i64::try_from(began.elapsed().as_millis()).unwrap() * SPEED;
            format!("{}@{SPEED}", time(begin + passed))
        };
        let ports = free_ports(2).unwrap();
        let logs = ["serve-0.log", "serve-1.log"];
        let mut servers = [0, 1].map(|i| self.folder.serve(ports[i], &clock(), logs[i]));
        for server in &mut servers {
            server.wait_until_ready().await;
        }
        let first = usize::try_from(self.plan.served).unwrap();
        let all = usize::try_from(self.plan.hours).unwrap();
        let late = usize::try_from(self.plan.late[1]).unwrap();
        let kills = self.plan.served_kills;
        let mut is_loaded = false;
        let (mut done, mut killed) = (first, 0);
        let patience = Patience::new("all windows were run by servers of jobs");
        while done < all {
            done = self.place.published(JOB, self.end()).await;
            if !is_loaded && done > late {
                is_loaded = true;
                self.flows.load_late(self.start + late as i64 * HOUR, HOUR, &mut self.rng).await;
            }
            // Spread over the hours. One that has the lease is killed, then any, and so on.
            if killed < kills && done > first + killed * (all - first) / kills {
                let mut i = self.rng.random_range(0..2);
                if killed % 2 == 0 {
                    i = usize::from(!self.place.is_leased_to(JOB, servers[0].process.id()).await);
                    if !self.place.is_leased_to(JOB, servers[i].process.id()).await {
                        patience.pause().await;
                        continue;
                    }
                }
                killed += 1;
                let process = servers[i].process.id();
                servers[i].process.kill().unwrap();
                servers[i].process.wait().unwrap();
                let had_lease = self.place.end_lease(JOB, process).await;
                println!("{done} windows: server {i} was killed, had the lease: {had_lease}");
                servers[i] = self.folder.serve(ports[i], &clock(), logs[i]);
                servers[i].wait_until_ready().await;
            }
            patience.pause().await;
        }
        // A slow machine may run the last windows before the last kill.
        assert!(killed > 0 && is_loaded, "{killed} of {kills} kills");
        for server in &mut servers {
            let status = server.stop().await;
            assert!(status.success(), "{status}: {}", server.log());
        }
        // What was stopped between two steps.
        let now = self.due(self.plan.hours - 1);
        self.run_to_the_end(&now, 0).await;
    }

    /// Checks the states, the manifests, the alerts and what is open on the server.
    pub(super) async fn check(&self) {
        let windows = self.folder.windows(JOB, &self.due(self.plan.hours - 1));
        let mut manifests = self.place.manifests(JOB).await;
        // The clock of the servers may have gone on. What is beyond has no flows.
        let beyond = manifests.split_off(&time(self.end()));
        assert!(beyond.values().flatten().all(|manifest| manifest["documents"] == 0), "{beyond:?}");
        let newest: Vec<&Value> = manifests.values().filter_map(|revisions| revisions.last()).collect();
        assert_eq!(newest.len(), windows.len(), "{:?}", manifests.keys());
        let planted = self.flows.planted();
        assert_eq!(findings(newest.iter().copied()), planted, "{}", self.log());
        let states: Vec<Value> = windows
            .iter()
            .map(|window| json!([window["start"], window["state"], window["documents"]]))
            .collect();
        let expected: Vec<Value> = self
            .flows
            .documents
            .iter()
            .map(|(start, documents)| json!([time(*start), "done", documents]))
            .collect();
        assert_eq!(states, expected, "{}", self.log());
        for (hour, (start, revisions)) in manifests.iter().enumerate() {
            let is_late = self.plan.late.contains(&(hour as i64));
            assert_eq!(revisions.len() > 1, is_late, "{start}: {revisions:?}");
            let revisions: Vec<&Value> = revisions.iter().map(|manifest| &manifest["revision"]).collect();
            let expected: Vec<usize> = (1..=revisions.len()).collect();
            assert_eq!(json!(revisions), json!(expected), "{start}: {}", self.log());
        }
        assert_eq!(alerts(&self.url, ALERTS).await, planted, "{}", self.log());
        self.wait_for_nothing_open().await;
    }

    /// A killed run leaves its points in time to the server, which looks for those that have ended once a minute.
    async fn wait_for_nothing_open(&self) {
        let patience = Patience::new("no context is open on the server");
        while count_open_contexts(&self.connection).await.unwrap() > 0 {
            patience.pause().await;
        }
    }
}
