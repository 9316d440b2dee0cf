//! What a host can name of the library: `docs/reference/public-api.txt`, which a change of the
//! interface changes too. It is made from rustdoc's JSON, whose form goes with the toolchain.
#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy exempts only the test functions themselves")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rustdoc's JSON of the library, as a host builds it with the usual features.
fn described() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/public-api");
    let status = Command::new(env!("CARGO"))
        .args(["rustdoc", "--quiet", "--lib", "--locked", "--offline"])
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", &target)
        // The JSON is for nightly compilers alone; nothing else of them is used.
        .env("RUSTC_BOOTSTRAP", "1")
        .status();
    assert!(status.unwrap().success());
    target.join("doc/spec_notify.json")
}

/// Whether a line has a path through a module of ours, which are all private.
fn is_nameless(line: &str) -> bool {
    line.split("spec_notify::").skip(1).any(|path| {
        let rest = path.trim_start_matches(|c: char| c.is_ascii_lowercase() || c == '_');
        // What the control port reads can be made of a `Query`, and says so.
        rest.len() < path.len() && rest.starts_with("::") && !path.starts_with("ask::Request")
    })
}

#[test]
#[ignore = "builds the library once more: cargo test --test surface -- --ignored"]
fn the_public_surface_is_the_one_that_was_agreed_on() {
    let surface = public_api::Builder::from_rustdoc_json(described())
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .expect("the crate public-api that reads the JSON of this toolchain: see docs/dependencies.md");
    let known = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/public-api.txt");
    let surface = surface.to_string();
    if std::env::var_os("PUBLIC_API").is_some_and(|what| what == "write") {
        fs::create_dir_all(known.parent().unwrap()).unwrap();
        fs::write(&known, &surface).unwrap();
    }
    let agreed = fs::read_to_string(&known).unwrap_or_default();
    let only = |one: &str, other: &str| -> Vec<String> {
        let other: std::collections::HashSet<&str> = other.lines().collect();
        one.lines().filter(|line| !other.contains(line)).map(str::to_owned).collect()
    };
    let nameless: Vec<&str> = surface.lines().filter(|line| is_nameless(line)).collect();
    assert!(nameless.is_empty(), "re-export them in src/lib.rs: {nameless:#?}");
    let (new, gone) = (only(&surface, &agreed), only(&agreed, &surface));
    assert!(
        new.is_empty() && gone.is_empty(),
        "if this is meant: PUBLIC_API=write cargo test --test surface -- --ignored\nnew: {new:#?}\ngone: {gone:#?}"
    );
}
