//! The bodies of this crate over their seeds.

#[test]
fn tables_and_scans_that_travel() {
    fuzz_bodies::replay("codec", fuzz_codec_bodies::codec);
}

#[test]
fn plans_that_arrive_at_a_scheduler() {
    fuzz_bodies::replay("admission", fuzz_codec_bodies::admission);
}
