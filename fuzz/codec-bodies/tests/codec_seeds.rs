//! The body of this crate over its seeds.

#[test]
fn tables_and_scans_that_travel() {
    fuzz_bodies::replay("codec", fuzz_codec_bodies::codec);
}
