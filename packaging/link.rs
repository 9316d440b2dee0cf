//! Tells the linker how the program is linked: a build script, which Cargo runs before it.

use std::env;
use std::process::Command;

/// The first glibc that reads relative relocations in their short form.
const PACKED_SINCE: (u32, u32) = (2, 36);

/// Has relative relocations in their short form: 12 KB in place of 0.75 MB, which every process of
/// the program would read at its start and keep mapped. Only where the linker is the one that comes
/// with Rust, and what it links runs here.
fn main() {
    println!("cargo::rerun-if-changed=packaging/link.rs");
    let of_cargo = |name| env::var(name).unwrap_or_default();
    let (host, target) = (of_cargo("HOST"), of_cargo("TARGET"));
    let is_of_linking = |flag: &str| flag.trim_start_matches(['-', 'C', 'Z', ' ']).starts_with("link");
    let is_own_linker = env::var_os("RUSTC_LINKER").is_none()
        && !of_cargo("CARGO_ENCODED_RUSTFLAGS").split('\x1f').any(is_of_linking);
    let is_for_here = host == target && target == "x86_64-unknown-linux-gnu";
    if is_own_linker && is_for_here && glibc().is_some_and(|version| version >= PACKED_SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc, if that is what it has.
fn glibc() -> Option<(u32, u32)> {
    let printed = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let version = String::from_utf8(printed.stdout).ok()?;
    let (major, minor) = version.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
