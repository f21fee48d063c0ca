//! What is fuzzed of serialized tables and scans, and of plans at a scheduler.
//!
//! Owns: which bytes are tried and what must hold of them. Must not know the fuzzer.
//!
//! The bytes are taken twice: as what arrived, and as the choices by which something that nearly might have
//! been sent is made.

mod admission;
mod aggregate;
mod folder;
mod made;
mod made_plan;
mod reached;
mod scan;
mod table;
mod wire;

pub use admission::admission;
use arbitrary::{Result, Unstructured};

/// Bytes as a scan, as a table and as a pushed aggregate, and each made for it.
pub fn codec(data: &[u8]) {
    let mut u = Unstructured::new(data);
    scan::check(data, &made::two_partitions());
    let _ = table::check(data, &mut u);
    let _ = aggregate::check(data, &made::two_partitions(), &mut Unstructured::new(data));
    let _ = check_made(&mut Unstructured::new(data));
}

fn check_made(u: &mut Unstructured<'_>) -> Result<()> {
    if u.arbitrary()? {
        let sent = made::scan(u)?;
        let slices = made::slices(u)?;
        scan::check(&sent, &slices);
        let Some((spec, _)) = scan::spec_of(&sent) else { return Ok(()) };
        let sent = made::aggregate(u)?;
        aggregate::check_over(&sent, spec, &slices, u)
    } else {
        let sent = made::table(u)?;
        table::check(&sent, u)
    }
}
