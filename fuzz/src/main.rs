//! Runs the target that `TARGET` names, on libFuzzer: see `fuzz/run`.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("TARGET").unwrap_or_default();
        let found = spec_notify::fuzzing::TARGETS.into_iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("TARGET={name} is none")).1
    });
    target(bytes);
});
