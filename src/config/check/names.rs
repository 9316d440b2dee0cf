//! Finds tables with names close to `[spec_ops.webhooks]`: a misspelling would silently switch
//! webhooks off, or lose a subscription.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::Findings;

/// The name of this program's table.
const OURS: &str = "[spec_ops.webhooks]";

/// Refuses tables that are certainly meant for this program, and warns about those that may be. All
/// other tables belong to the host. Returns how many were refused.
pub(super) fn refuse_misnamed(root: &DeTable<'_>, findings: &mut Findings<'_>) -> usize {
    let has_ours = root.iter().any(|(name, value)| {
        name.get_ref() == "spec_ops" && tables(value.get_ref()).any(|table| table.contains_key("webhooks"))
    });
    let mut refused = 0;
    let mut found = Vec::new();
    named(&[], None, &vec![root], &mut found);
    for (path, span, table) in found {
        match judge(&path, &table, has_ours) {
            None => {}
            Some(Verdict::Slip) => {
                refused += 1;
                findings.error(
                    Some(span),
                    format_args!(
                        "[{}] is not read: it is not the name of spec-notify's table",
                        path.join(".")
                    ),
                    format_args!("did you mean `{OURS}`? rename it"),
                );
            }
            Some(Verdict::Doubt) => findings.warn(
                Some(span),
                format_args!("[{}] is not read", path.join(".")),
                format_args!("if it is meant for spec-notify, rename it to {OURS}; else leave it as it is"),
            ),
        }
    }
    refused
}

enum Verdict {
    /// It can only be meant for this program.
    Slip,
    /// It may belong to another program.
    Doubt,
}

/// The content of a table: several tables if it is an array of tables.
type Tables<'t, 'i> = Vec<&'t DeTable<'i>>;

/// A table's name, the place of the first part of it that differs, and its content.
type Named<'t, 'i> = (Vec<String>, Range<usize>, Tables<'t, 'i>);

fn judge(path: &[String], table: &Tables<'_, '_>, has_ours: bool) -> Option<Verdict> {
    let is_like_ours = table.iter().any(|table| has_subscriptions(table));
    // If the right table is present too, a close name without subscriptions may be correct.
    let unless_ours_is_there = if has_ours && !is_like_ours { Verdict::Doubt } else { Verdict::Slip };
    let verdict = match path {
        // The same words, joined or separated differently.
        _ if far(&path.concat(), "specopswebhooks") == 0 => Verdict::Slip,
        [name] if far(name, "specopswebhooks") <= 2 => unless_ours_is_there,
        [name] if far(name, "webhooks") <= 1 && !has_ours => Verdict::Doubt,
        [name, inner] if far(name, "specops") == 0 && far(inner, "webhooks") <= 2 => Verdict::Slip,
        [name, inner] if far(name, "specops") == 1 && far(inner, "webhooks") <= 1 => unless_ours_is_there,
        _ if is_like_ours => Verdict::Doubt,
        _ => return None,
    };
    Some(verdict)
}

/// The edit distance between a name and the expected one, ignoring case and separators.
fn far(name: &str, ours: &str) -> usize {
    let name: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    strsim::damerau_levenshtein(&name, ours)
}

/// Whether it holds what only a list of subscriptions for this program has.
fn has_subscriptions(table: &DeTable<'_>) -> bool {
    let lists = table.iter().filter(|(name, _)| far(name.get_ref(), "subscriptions") <= 1);
    lists.flat_map(|(_, value)| tables(value.get_ref())).any(|entry| entry.contains_key("secret_env"))
}

/// Collects every table of the file's first three levels except `[spec_ops.webhooks]`.
fn named<'t, 'i>(
    above: &[String],
    at: Option<&Range<usize>>,
    tables_above: &Tables<'t, 'i>,
    found: &mut Vec<Named<'t, 'i>>,
) {
    for (name, value) in tables_above.iter().flat_map(|table| table.iter()) {
        let held: Tables<'_, '_> = tables(value.get_ref()).collect();
        let path = [above, &[name.get_ref().to_string()]].concat();
        if held.is_empty() || path == ["spec_ops", "webhooks"] {
            continue;
        }
        let own = (path != ["spec_ops"]).then(|| at.cloned().unwrap_or_else(|| name.span()));
        if path.len() < 3 {
            named(&path, own.as_ref(), &held, found);
        }
        found.push((path, own.unwrap_or_else(|| name.span()), held));
    }
}

/// The table in a value, or the tables of the array in it.
fn tables<'t, 'i>(value: &'t DeValue<'i>) -> impl Iterator<Item = &'t DeTable<'i>> {
    let list = value.as_array().into_iter().flatten().filter_map(|item| item.get_ref().as_table());
    value.as_table().into_iter().chain(list)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::check::check;
    use crate::env::Environment;

    /// The findings: `E` for an error, `W` for a warning, with the place.
    fn found(text: &str) -> Vec<String> {
        let environment = Environment::fixed([]);
        let loaded = check(Some("config.toml".into()), text, Path::new("/repo"), &environment, (false, None));
        let show = |kind: char, problem: &crate::config::Problem| {
            format!("{kind}{}:{}", problem.line.unwrap_or(0), problem.column.unwrap_or(0))
        };
        let errors = loaded.errors.iter().map(|problem| show('E', problem));
        let warnings = loaded.warnings.iter().filter(|problem| problem.message.ends_with("is not read"));
        errors.chain(warnings.map(|problem| show('W', problem))).collect()
    }

    const SUBSCRIPTION: &str = "id = \"a\"\nurl = \"https://h.example/x\"\nsecret_env = \"S\"\n";

    #[test]
    fn a_slip_in_our_name_is_an_error_with_its_place() {
        for (name, column) in [
            ("spec_ops.webhook", 11),
            ("spec_ops.Webhooks", 11),
            ("spec_ops.web_hooks", 11),
            ("spec_ops.web-hook", 11),
            ("spec_ops.wehbooks", 11),
            ("spec-ops.webhooks", 2),
            ("spec_op.webhooks", 2),
            ("spec_op.webhook", 2),
            ("specops.webhooks", 2),
            ("Spec_Ops.webhooks", 2),
            ("sepc_ops.webhooks", 2),
            ("spec_ops_webhooks", 2),
            ("spec-ops-webhook", 2),
            ("\"spec_ops.webhooks\"", 2),
            ("spec.ops.webhooks", 2),
            ("spec_ops.web.hooks", 11),
        ] {
            let table = format!("# a\n[{name}]\nenabled = true\n");
            assert_eq!(found(&table), [format!("E2:{column}")], "{name}");
            let list = format!("\n\n[[{name}.subscriptions]]\n{SUBSCRIPTION}");
            assert_eq!(found(&list), [format!("E3:{}", column + 1)], "{name}");
            // Also beside the right table: a subscription that is not read is lost in the same way.
            let both = format!("{list}[spec_ops.webhooks]\nenabled = true\n");
            assert_eq!(found(&both), [format!("E3:{}", column + 1)], "{name}");
        }
    }

    #[test]
    fn what_may_be_another_programs_is_a_warning_at_most() {
        assert_eq!(found("[webhooks]\nurl = \"x\"\n"), ["W1:2"]);
        assert_eq!(found(&format!("[[webhooks.subscriptions]]\n{SUBSCRIPTION}")), ["W1:3"]);
        assert_eq!(found(&format!("[[spec_kit.webhooks.subscriptions]]\n{SUBSCRIPTION}")), ["W1:3"]);
        assert_eq!(found(&format!("[[spec_ops.subscriptions]]\n{SUBSCRIPTION}")), ["W1:3"]);
        let ours = "[spec_ops.webhooks]\nenabled = true\n";
        assert_eq!(found(&format!("{ours}[secops.webhooks]\nenabled = true\n")), ["W3:2"]);
        assert_eq!(found(&format!("{ours}[webhooks]\nurl = \"x\"\n")), [""; 0]);
    }

    #[test]
    fn the_hosts_own_tables_are_left_alone() {
        let theirs = "model = \"m\"\nspec_opz = 1\nwebhook = \"x\"\n[tui]\nx = 1\n\
                      [spec_ops]\nwebhook = 1\n[spec_ops.telemetry]\n\
                      enabled = true\n[spec_ops.web]\nport = 1\n[spec_ops.hooks]\nx = 1\n\
                      [specs]\nx = 1\n[specs.hooks]\nx = 1\n\
                      [github.webhooks]\nurl = \"x\"\n[[mcp.servers]]\nurl = \"x\"\n\
                      [devops.webhooks]\nenabled = true\n\
                      [hooks.subscriptions]\nx = 1\n[pubsub]\nsubscriptions = [{ topic = \"t\" }]\n";
        assert_eq!(found(theirs), [""; 0]);
        assert_eq!(found(&format!("{theirs}[spec_ops.webhooks]\nenabled = true\n")), [""; 0]);
    }
}
