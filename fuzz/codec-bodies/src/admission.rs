//! A plan that arrived at a scheduler.
//!
//! Owns: narrow grants, and what must hold of a plan that they admit. Must not know how admission decides: it looks at
//! what a plan reaches by itself (`reached`).

use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use arbitrary::Unstructured;
use ballista_elasticsearch::{EsLogicalCodec, Identity, Protected, decode_plan, reach_of};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion_proto::logical_plan::AsLogicalPlan;
use datafusion_proto::protobuf::LogicalPlanNode;
use flowsigma_node::{Config, Grants, Role};
use prost::Message;

use crate::folder::{FOLDER, LINK};
use crate::made_plan::{self, INDEX};
use crate::reached::{Reached, reached};
use crate::scan::{CONNECTION, NO_CONNECTIONS};

/// As a scheduler's threads have it: a plan is as deep as its sender likes.
const STACK_BYTES: usize = 32 << 20;

static MAY: LazyLock<Identity> = LazyLock::new(|| Identity {
    name: "alice".to_owned(),
    role: Role::Client,
    grants: Grants {
        connections: vec![CONNECTION.to_owned()],
        indices: vec![format!("{INDEX}*")],
        read: vec![FOLDER.join("in")],
        write: vec![FOLDER.join("out")],
        ..Grants::default()
    },
    by_certificate: true,
    submits: true,
});

static PROTECTED: LazyLock<Protected> = LazyLock::new(|| Protected::by(&Config::default()));

/// Bytes as a plan, and a plan that is made by them.
pub fn admission(data: &[u8]) {
    std::thread::scope(|scope| {
        let checked = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || {
            arrived(data);
            if let Ok(plan) = made_plan::made(&mut Unstructured::new(data)) {
                made(&plan);
            }
        });
        let checked = checked.expect("a thread").join();
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    });
}

fn arrived(sent: &[u8]) {
    let codec = EsLogicalCodec::new(NO_CONNECTIONS.clone());
    if let Ok(plan) = decode_plan(sent, &TaskContext::default(), &codec) {
        check(&plan);
    }
}

/// As it is, and as it arrives.
fn made(plan: &LogicalPlan) {
    check(plan);
    let codec = EsLogicalCodec::new(NO_CONNECTIONS.clone());
    if let Ok(node) = LogicalPlanNode::try_from_logical_plan(plan, &codec) {
        arrived(&node.encode_to_vec());
    }
}

/// What is admitted reaches only what is granted.
fn check(plan: &LogicalPlan) {
    let Ok(reach) = reach_of(plan) else { return };
    if let Err(refusal) = reach.judge(&MAY, &PROTECTED) {
        assert!(!refusal.to_string().is_empty());
        return;
    }
    let Reached { indices, reads, writes, unknown } = reached(plan);
    assert_eq!(unknown, Vec::<String>::new(), "admitted: {plan}");
    for (connection, index) in indices {
        assert_eq!(connection, CONNECTION, "admitted: {plan}");
        assert!(is_granted(&index), "admitted: \"{index}\" in {plan}");
    }
    for (paths, root) in [(reads, "in"), (writes, "out")] {
        for path in paths {
            assert!(leads_to(&path).starts_with(FOLDER.join(root)), "admitted: {} in {plan}", path.display());
        }
    }
}

/// Where a path ends, by the links that there are.
fn leads_to(path: &Path) -> PathBuf {
    let links = ["in", "out"].map(|root| FOLDER.join(root).join(LINK));
    let mut place = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(place.pop()),
            other => place.push(other),
        }
        if links.contains(&place) {
            place = FOLDER.join("secret");
        }
    }
    place
}

/// Whether every index of an expression begins as the granted ones do.
fn is_granted(expression: &str) -> bool {
    expression.split(',').enumerate().all(|(place, part)| {
        let excluded = place > 0 && part.trim().starts_with('-');
        excluded
            || part.trim().strip_prefix(INDEX).is_some_and(|rest| !rest.contains(['/', '%', ':', '<', '>']))
    })
}
