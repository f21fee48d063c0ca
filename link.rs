//! How the programs are linked: the build script of each.
//!
//! A program of this size has several hundred thousand relative relocations, and the dynamic linker reads all of them
//! at the start. Packed (RELR) they take a hundredth of the memory and of the file. glibc reads them since 2.36, and
//! refuses to start the program before that.

use std::process::Command;

/// The first release of glibc that reads packed relocations.
const PACKED_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-env-changed=CARGO_CFG_TARGET_ENV");
    let set = |name| std::env::var(name).unwrap_or_default();
    let for_this_machine = set("HOST") == set("TARGET");
    let gnu_linux = set("CARGO_CFG_TARGET_OS") == "linux" && set("CARGO_CFG_TARGET_ENV") == "gnu";
    if for_this_machine && gnu_linux && glibc().is_some_and(|version| version >= PACKED_SINCE) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Returns the major and minor version of this machine's glibc.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, rest) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, rest.split('.').next()?.parse().ok()?))
}
