//! A proxy before an executor, which holds back the rows that others fetch from it.
//!
//! Owns: forwarding an executor's two ports, and knowing which stage's rows a request fetches. Must not
//! know: what a test expects.
//!
//! A stage that waits for rows runs until they come, so a test can kill an executor while it does.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    Nothing,
    /// Requests for the rows of the stage that is the nth one whose rows are fetched, from 0.
    Requests(usize),
    /// The answers to these requests, but for their first bytes, which are all that arrive.
    Answers(usize),
}

/// The first rows that are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The job.
    pub job: String,
    /// The stage whose rows these are.
    pub stage: u64,
    /// The executor that has them, by the order in which proxies were started.
    pub executor: usize,
}

/// What the proxies of one cluster hold back together.
#[derive(Debug)]
pub struct Gate {
    hold: watch::Sender<Hold>,
    /// Job and stage, in the order in which their rows were first fetched.
    stages: Mutex<Vec<(String, u64)>>,
    held: watch::Sender<Option<Held>>,
    proxies: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            hold: watch::Sender::new(Hold::Nothing),
            stages: Mutex::default(),
            held: watch::Sender::new(None),
            proxies: AtomicUsize::new(0),
        }
    }
}

impl Gate {
    /// From now on, of the next job.
    pub fn set(&self, hold: Hold) {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.held.send_replace(None);
        self.hold.send_replace(hold);
    }

    /// Lets all go.
    pub fn open(&self) {
        self.hold.send_replace(Hold::Nothing);
    }

    /// Waits until something is held.
    pub async fn wait_for_held(&self, longest: Duration) -> Result<Held> {
        let mut held = self.held.subscribe();
        let held = tokio::time::timeout(longest, held.wait_for(Option::is_some)).await;
        let held = held.with_context(|| format!("no rows are held within {longest:?}"))??.clone();
        held.context("no rows are held")
    }

    fn number(&self, stage: &(String, u64)) -> usize {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.iter().position(|known| known == stage).unwrap_or_else(|| {
            stages.push(stage.clone());
            stages.len() - 1
        })
    }

    async fn hold(&self, (job, stage): (String, u64), executor: usize) {
        self.held.send_modify(|held| {
            held.get_or_insert(Held { job, stage, executor });
        });
        // The sender is here.
        self.hold.subscribe().wait_for(|hold| *hold == Hold::Nothing).await.ok();
    }
}

/// A running proxy of one executor on 127.0.0.1, at the ports of the executor; gone when dropped.
pub struct RowsProxy {
    /// Where the executor listens: an address of its own, so that its ports are free there.
    pub behind: Ipv4Addr,
    /// Where the executor is reached for rows.
    pub flight: u16,
    /// Where it is reached for tasks.
    pub grpc: u16,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for RowsProxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl RowsProxy {
    /// Before an executor that will listen behind it.
    pub async fn start(gate: &Arc<Gate>) -> Result<Self> {
        let [flight, grpc] = [listen().await?, listen().await?];
        let ports = [flight.local_addr()?.port(), grpc.local_addr()?.port()];
        static STARTED: AtomicU16 = AtomicU16::new(1);
        let [high, low] = STARTED.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        let behind = Ipv4Addr::new(127, 1, high, low);
        let executor = gate.proxies.fetch_add(1, Ordering::SeqCst);
        let rows = accept(flight, (behind, ports[0]).into(), Arc::clone(gate), executor);
        let tasks = [rows, accept(grpc, (behind, ports[1]).into(), Arc::default(), executor)];
        Ok(Self { behind, flight: ports[0], grpc: ports[1], tasks })
    }
}

async fn listen() -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?)
}

fn accept(listener: TcpListener, behind: SocketAddr, gate: Arc<Gate>, executor: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { forward(stream, behind, &gate, executor).await.ok() });
        }
    })
}

/// The first bytes of an answer: more than its head, less than its schema.
const HEAD: usize = 120;

async fn forward(mut near: TcpStream, behind: SocketAddr, gate: &Gate, executor: usize) -> Result<()> {
    // Who is not there any more refuses the connection as if there were no proxy.
    let Ok(mut far) = TcpStream::connect(behind).await else {
        near.set_zero_linger()?;
        return Ok(());
    };
    let (mut near_read, mut near_write) = near.split();
    let (mut far_read, mut far_write) = far.split();
    let held_answer = Mutex::new(None);
    let requests = async {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let n = near_read.read(&mut bytes).await?;
            if n == 0 {
                far_write.shutdown().await?;
                return anyhow::Ok(());
            }
            if let Some(stage) = fetched_stage(&bytes[..n]) {
                let number = gate.number(&stage);
                let hold = *gate.hold.borrow();
                if hold == Hold::Requests(number) {
                    gate.hold(stage, executor).await;
                } else if hold == Hold::Answers(number) {
                    *held_answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage);
                }
            }
            far_write.write_all(&bytes[..n]).await?;
        }
    };
    let replies = async {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let n = far_read.read(&mut bytes).await?;
            if n == 0 {
                near_write.shutdown().await?;
                return anyhow::Ok(());
            }
            let hold = held_answer.lock().unwrap_or_else(PoisonError::into_inner).take_if(|_| n > HEAD);
            let Some(stage) = hold else {
                near_write.write_all(&bytes[..n]).await?;
                continue;
            };
            near_write.write_all(&bytes[..HEAD]).await?;
            gate.hold(stage, executor).await;
            anyhow::bail!("the answer is cut off");
        }
    };
    tokio::try_join!(requests, replies)?;
    Ok(())
}

/// The job and the stage of Ballista's `Action::FetchPartition`, if a request for one is among the bytes: a
/// message (field 3) that begins with the job's id (field 1) and the stage's number (field 2, absent for 0).
fn fetched_stage(bytes: &[u8]) -> Option<(String, u64)> {
    const ACTION: u8 = 0x1a;
    const JOB: u8 = 0x0a;
    const STAGE: u8 = 0x10;
    (0..bytes.len()).find_map(|start| {
        let rest = bytes[start..].strip_prefix(&[ACTION])?;
        let (_, rest) = varint(rest)?;
        let (length, rest) = varint(rest.strip_prefix(&[JOB])?)?;
        let (job, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let is_id = (6..40).contains(&job.len()) && job.iter().all(|b| b.is_ascii_alphanumeric());
        let job = is_id.then(|| String::from_utf8_lossy(job).into_owned())?;
        match rest.strip_prefix(&[STAGE]) {
            Some(rest) => Some((job, varint(rest)?.0)),
            None => Some((job, 0)),
        }
    })
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().take(9).position(|b| b & 0x80 == 0)?;
    let (number, rest) = bytes.split_at(end + 1);
    Some((number.iter().rev().fold(0, |sum, b| sum << 7 | u64::from(b & 0x7f)), rest))
}

#[cfg(test)]
mod tests {
    use super::fetched_stage;

    #[test]
    fn a_request_for_rows_names_their_job_and_stage() {
        let request = |stage: &[u8]| {
            let fetch = [b"\x0a\x0b01a2b3c4d5e", stage, b"\x2a\x09127.0.0.1\x30\x90\x4e"].concat();
            let action = [b"\x1a", &[fetch.len() as u8][..], &fetch].concat();
            [&b"\0\0\0\0\x40\x0a\x12IO_BLOCK_TRANSPORT\x12\x30"[..], &action].concat()
        };
        assert_eq!(fetched_stage(&request(b"\x10\x02\x18\x01")), Some(("01a2b3c4d5e".into(), 2)));
        assert_eq!(fetched_stage(&request(b"\x18\x01")), Some(("01a2b3c4d5e".into(), 0)));
        assert_eq!(fetched_stage(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), None);
    }
}
