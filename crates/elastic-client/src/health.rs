//! The choice of the Elasticsearch node for the next request.
//!
//! Owns: the rotation of nodes, and how long an unreachable node is ejected. Must not know: requests, or why a node was
//! not reached.

use crate::request::Idempotence;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The length of the first ejection. It doubles with each further failure.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The state of the Elasticsearch nodes of one connection, by their place in its list.
#[derive(Debug)]
pub(crate) struct Health {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    next: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    failures: u32,
    out_until: Option<Instant>,
}

impl Node {
    fn leave_out(&mut self, now: Instant) {
        let length = FIRST.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(LONGEST);
        self.out_until = Some(now + length);
    }
}

impl Health {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { state: Mutex::new(State { nodes: vec![Node::default(); nodes], next: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the place of the next node that is not ejected. If all are ejected, returns the one whose ejection ends
    /// first.
    ///
    /// A node whose ejection has ended gets one idempotent request, and stays ejected until it responds. A request that
    /// is not idempotent is not sent to it, because it could not be retried.
    pub(crate) fn pick(&self, now: Instant, idempotence: Idempotence) -> usize {
        let mut state = self.state();
        let count = state.nodes.len();
        let first = state.next;
        state.next = (first + 1) % count;
        for place in (0..count).map(|i| (first + i) % count) {
            let node = &mut state.nodes[place];
            match node.out_until {
                None => return place,
                Some(until) if until <= now && idempotence == Idempotence::Idempotent => {
                    node.leave_out(now);
                    return place;
                }
                Some(_) => {}
            }
        }
        (0..count).min_by_key(|&place| state.nodes[place].out_until).unwrap_or(0)
    }

    pub(crate) fn answered(&self, place: usize) {
        self.state().nodes[place] = Node::default();
    }

    pub(crate) fn failed(&self, place: usize, now: Instant) {
        let node = &mut self.state().nodes[place];
        node.failures += 1;
        node.leave_out(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(health: &Health, now: Instant, count: usize) -> Vec<usize> {
        (0..count).map(|_| health.pick(now, Idempotence::Idempotent)).collect()
    }

    #[test]
    fn a_failed_node_is_left_out_tried_again_by_one_request_and_back_when_it_answers() {
        let start = Instant::now();
        let health = Health::new(3);
        assert_eq!(picks(&health, start, 4), [0, 1, 2, 0]);
        health.failed(1, start);
        assert!(!picks(&health, start, 6).contains(&1));
        let later = start + FIRST;
        assert!(
            (0..6).all(|_| health.pick(later, Idempotence::NotIdempotent) != 1),
            "a scroll page is not risked"
        );
        assert_eq!(picks(&health, later, 6).iter().filter(|p| **p == 1).count(), 1);
        health.failed(1, later);
        assert!(!picks(&health, later + FIRST, 6).contains(&1), "the second time is longer");
        health.answered(1);
        assert_eq!(picks(&health, later, 6).iter().filter(|p| **p == 1).count(), 2);
    }

    #[test]
    fn with_all_nodes_out_the_one_that_failed_first_is_asked() {
        let start = Instant::now();
        let health = Health::new(2);
        health.failed(1, start);
        health.failed(0, start + Duration::from_millis(1));
        assert_eq!(picks(&health, start + Duration::from_millis(2), 2), [1, 1]);
        for _ in 0..40 {
            health.failed(0, start);
        }
        assert_eq!(health.pick(start + LONGEST, Idempotence::Idempotent), 0, "never longer than a minute");
    }
}
