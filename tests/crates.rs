//! What the crates under us may be, as far as it can be said without a network: the rest is checked
//! with `deny.toml` by `.ci/beside`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests; clippy exempts only the test functions themselves"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Every package that is built here, whatever the features, and our own.
fn packages() -> Vec<Value> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--all-features", "--format-version", "1"])
        .args(["--filter-platform", &host, "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let built: BTreeSet<String> = nodes.iter().map(|node| node["id"].to_string()).collect();
    let all = metadata["packages"].take();
    let packages: Vec<Value> = all
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| built.contains(&package["id"].to_string()))
        .cloned()
        .collect();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    packages
}

fn deny() -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

fn name(package: &Value) -> String {
    format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap())
}

#[test]
fn no_crate_needs_a_newer_rust_than_we_say() {
    let minor = |version: &str| version.split('.').nth(1).unwrap().parse::<u32>().unwrap();
    let ours = minor(env!("CARGO_PKG_RUST_VERSION"));
    for package in packages() {
        let needed = package["rust_version"].as_str().map_or(0, minor);
        assert!(needed <= ours, "{} needs Rust 1.{needed}", name(&package));
    }
}

/// Whether an SPDX expression can be met with what is allowed. `/` is how `OR` was written once.
fn is_met(expression: &str, allowed: &[&str]) -> bool {
    let any = |part: &str| part.split(" OR ").any(|one| allowed.contains(&one.trim_matches(['(', ')', ' '])));
    expression.replace('/', " OR ").split(" AND ").all(any)
}

#[test]
fn every_licence_is_one_that_deny_toml_has() {
    let deny = deny();
    let allowed = deny["licenses"]["allow"].as_array().unwrap();
    let allowed: Vec<&str> = allowed.iter().map(|one| one.as_str().unwrap()).collect();
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(is_met(licence, &allowed), "{}: {licence}", name(&package));
    }
    assert!(!is_met("GPL-3.0", &allowed) && !is_met("MIT AND GPL-3.0", &allowed));
}

#[test]
fn every_crate_comes_from_the_registry() {
    for package in packages() {
        let source = package["source"].as_str();
        let is_ours = package["name"] == env!("CARGO_PKG_NAME");
        assert!(
            is_ours || source.is_some_and(|source| source.starts_with("registry+")),
            "{}",
            name(&package)
        );
    }
}

#[test]
fn every_second_version_of_a_crate_has_its_reason() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let of = |key: &str| package[key].as_str().unwrap().to_owned();
        versions.entry(of("name")).or_default().insert(of("version"));
    }
    let deny = deny();
    let skipped: Vec<&str> =
        deny["bans"]["skip"].as_array().unwrap().iter().map(|one| one["crate"].as_str().unwrap()).collect();
    for (crate_name, mut versions) in versions {
        let is_skipped = |version: &String| {
            skipped.iter().any(|skip| {
                let (name, begins) = skip.split_once('@').unwrap();
                name == crate_name && format!("{version}.").starts_with(&format!("{begins}."))
            })
        };
        versions.retain(|version| !is_skipped(version));
        assert!(versions.len() < 2, "{crate_name}: {versions:?}");
    }
}

#[test]
fn no_crate_that_deny_toml_bans_is_built() {
    let deny = deny();
    let banned = deny["bans"]["deny"].as_array().unwrap();
    assert!(!banned.is_empty());
    let packages = packages();
    for ban in banned {
        let found = packages.iter().find(|package| package["name"] == ban["crate"].as_str().unwrap());
        assert!(found.is_none(), "{ban:?}");
    }
}
