//! Who this process belongs to: what the evidence of a replay says.

use std::fs;
use std::sync::OnceLock;

/// The user's name, as far as this machine's own list of users knows it; else the number.
pub(super) fn name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let id = rustix::process::geteuid().as_raw().to_string();
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        name_in(&users, &id).map_or_else(|| id.clone(), str::to_owned)
    })
}

fn name_in<'a>(users: &'a str, id: &str) -> Option<&'a str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)? == id).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_known_by_the_third_field() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nodd\n:x:7:\nada:1000:1001:1000::/home/ada:\n";
        assert_eq!(name_in(users, "1001"), Some("ada"));
        assert_eq!(name_in(users, "0"), Some("root"));
        for unknown in ["1000", "7", "", "root"] {
            assert_eq!(name_in(users, unknown), None);
        }
        assert!(!name().is_empty());
    }
}
