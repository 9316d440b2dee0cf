//! Tests: every key is asked for, whatever the others are. One that were not would be refused as
//! unknown.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;

use super::check;
use crate::env::Environment;

/// Values that are valid for some keys and invalid for others; a key may also be absent.
const VALUES: [Option<&str>; 14] = [
    None,
    Some("true"),
    Some("false"),
    Some("7"),
    Some("-0.5"),
    Some("1979-05-27"),
    Some("\"\""),
    Some("\"A\""),
    Some("\"env:A\""),
    Some("\"https://h.example/x\""),
    Some("[]"),
    Some("[408, 7]"),
    Some("[\"Plan\", \"success\"]"),
    Some("{ A = \"x\", b = 1 }"),
];

const SETTINGS: &str = "[spec_ops.webhooks]";
const ALERTS: &str = "[spec_ops.webhooks.alerts]";
const SUBSCRIPTION: &str = "[[spec_ops.webhooks.subscriptions]]";

/// The known keys of a table with these lines, as listed in the message about an unknown key.
fn known(table: &str, lines: &str, is_on: bool, secrets: bool) -> Vec<String> {
    let switch = if is_on { "1" } else { "0" };
    let environment =
        Environment::fixed([("SPECKIT_WEBHOOKS_ENABLED", switch), ("A", "https://h.example/a")]);
    let text = format!("{table}\n{lines}zzzz = 1\n");
    let errors = check(None, &text, Path::new("/repo"), &environment, (secrets, None)).errors;
    let unknown = errors.iter().find(|error| error.message == "unknown key `zzzz`").unwrap();
    let listed = unknown.help.strip_prefix("known keys are: ").unwrap();
    listed.split(", ").map(str::to_owned).collect()
}

proptest! {
    #[test]
    fn every_key_is_known_whatever_the_others_are(
        table in select(&[SETTINGS, ALERTS, SUBSCRIPTION][..]),
        values in prop::collection::vec(select(&VALUES[..]), 32),
        is_on: bool,
        secrets: bool,
    ) {
        let keys = known(table, "", true, true);
        prop_assert!(keys.len() <= values.len());
        let given = keys.iter().zip(&values).filter_map(|(key, value)| Some((key, (*value)?)));
        let lines: String = given.map(|(key, value)| format!("{key} = {value}\n")).collect();
        prop_assert_eq!(known(table, &lines, is_on, secrets), keys);
    }
}

#[test]
fn globs_of_task_lists_are_paths_in_the_repo_and_each_error_has_its_place() {
    let text = "[spec_ops.webhooks]\ntask_files = [\"a/*/b.md\", \"/etc/x\",\n  \"../x\", \"a/[b].md\"]\n";
    let checked = |text: &str| check(None, text, Path::new("/repo"), &Environment::fixed([]), (true, None));
    let errors = checked(text).errors;
    let places: Vec<_> = errors.iter().map(|error| (error.line.unwrap(), error.column.unwrap())).collect();
    assert_eq!(places, [(2, 27), (3, 3), (3, 11)]);
    for (error, why) in errors.iter().zip(["not relative", "leads out", "`[` in it"]) {
        assert!(error.message.starts_with("`task_files`: ") && error.message.contains(why), "{error}");
        assert!(error.help.contains("relative to the repo root"), "{error}");
    }
    let config = checked("[spec_ops.webhooks]\ntask_files = [\"a/*/b.md\"]\n").config.unwrap();
    assert!(config.task_files[0].is_match(Path::new("a/x/b.md")));
    assert!(checked("[spec_ops.webhooks]\n").config.unwrap().task_files.is_empty());
}

#[test]
fn a_chat_subscription_says_who_is_called_and_where_links_lead() {
    let checked = |top: &str, entry: &str| {
        let text = format!(
            "[spec_ops.webhooks]\nenabled = true\n{top}\n[[spec_ops.webhooks.subscriptions]]\nid = \"a\"\n\
             url = \"https://h.example/x\"\nsecret_env = \"A\"\n{entry}\n"
        );
        check(None, &text, Path::new("/repo"), &Environment::fixed([]), (false, None))
    };
    for (format, owner) in [
        ("slack", "U0123ABC"),
        ("slack", "S0123ABC"),
        ("discord", "111222333444555666"),
        ("teams", "first.last@corp.example"),
        ("mattermost", "first.last"),
    ] {
        let entry = format!("format = \"{format}\"\nowner = \"{owner}\"\nnotify = \"failures+runs\"");
        let found = checked("", &entry).config.unwrap().subscriptions.remove(0);
        assert_eq!((found.owner.as_deref(), found.rate_limit_per_s), (Some(owner), Some(1.0)), "{format}");
    }
    for (format, owner) in [
        ("slack", "!channel"),
        ("slack", "U1> <!here"),
        ("slack", "C0123ABC"),
        ("discord", "@everyone"),
        ("discord", "111"),
        ("teams", "General"),
        ("teams", "a@b</at><at>c"),
        ("mattermost", "channel"),
        ("mattermost", "@lead"),
        ("spec-kit", "U0123ABC"),
    ] {
        let errors = checked("", &format!("format = \"{format}\"\nowner = \"{owner}\"")).errors;
        assert!(errors.len() == 1 && errors[0].message.starts_with("`owner`: "), "{owner}: {errors:?}");
    }
    let rate = |entry: &str| checked("", entry).config.unwrap().subscriptions[0].rate_limit_per_s;
    assert_eq!((rate(""), rate("format = \"slack\"\nrate_limit_per_s = 9")), (None, Some(9.0)));
    for template in ["gitlab", "https://git.corp.example/{repo}/tree/{branch}", "https://h/{commit}/{path}"] {
        let config = checked(&format!("link_template = \"{template}\""), "").config.unwrap();
        assert_eq!(config.link_template, Some(template.parse().unwrap()));
    }
    for template in
        ["github.com", "ftp://h/{branch}", "https://u:p@h/{branch}", "https://h/x", "https://h/{branch}/{x}"]
    {
        let errors = checked(&format!("link_template = \"{template}\""), "").errors;
        assert!(errors.len() == 1 && errors[0].message.starts_with("`link_template`: "), "{errors:?}");
    }
    let errors = checked("", "notify = \"failures\"").errors;
    assert!(errors[0].message.contains("known are: all, failures+runs"), "{errors:?}");
}

#[test]
fn source_roots_are_folders_in_the_repo_each_once() {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["packages/a/deep", "packages/b"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    std::fs::write(dir.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink("/tmp", dir.path().join("out")).unwrap();
    std::os::unix::fs::symlink("packages/a", dir.path().join("in")).unwrap();
    let checked = |roots: &str| {
        let text = format!("[spec_ops.webhooks]\nsource_roots = {roots}\nenabled = false\n");
        check(None, &text, dir.path(), &Environment::fixed([]), (true, None))
    };
    let found = |roots: &str| checked(roots).config.unwrap().source_roots.to_vec();
    let roots =
        |names: &[&str]| names.iter().map(|name| dir.path().join(name)).collect::<Vec<std::path::PathBuf>>();
    let nothing_said =
        check(None, "[spec_ops.webhooks]\n", dir.path(), &Environment::fixed([]), (true, None))
            .config
            .unwrap();
    assert_eq!(*nothing_said.source_roots, [dir.path().to_owned()]);
    assert_eq!(found("[\".\"]"), [dir.path()]);
    assert_eq!(found("[\"./packages//a/\", \"packages/b\"]"), roots(&["packages/a", "packages/b"]));
    assert_eq!(checked("[\".\", \"packages/a\"]").warnings, []);
    for (given, why) in [
        ("[]", "is empty"),
        ("[\"\"]", "is empty"),
        ("[\"/etc\"]", "is not relative"),
        ("[\"~/x\"]", "is not relative"),
        ("[\"../other\"]", "with `..`"),
        ("[\"packages/../../x\"]", "with `..`"),
        ("[\"packages/a/.specify\"]", "the folder that holds it is meant"),
        ("[\"file\"]", "is no folder"),
        ("[\"out\"]", "leads out of the repo over a link"),
        ("[\".\", \"./\"]", "is the same folder as `.`"),
        ("[\"packages/a\", \"packages/b\", \"packages/a/\"]", "is the same folder as `packages/a`"),
        ("[\"packages/a\", \"in\"]", "is the same folder as `packages/a`"),
        ("[1]", "is of type integer"),
    ] {
        let errors = checked(given).errors;
        assert!(errors.len() == 1 && errors[0].message.contains(why), "{given}: {errors:?}");
        assert_eq!(errors[0].line, Some(2), "{given}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("\"p{n}\"")).collect();
    let errors = checked(&format!("[{}]", many.join(", "))).errors;
    assert!(errors.len() == 1 && errors[0].message.contains("more than 64"), "{errors:?}");
    for (given, why) in [
        ("[\"packages/c\"]", "there is no folder `packages/c`"),
        ("[\"packages\", \"packages/a\"]", "`packages/a` lies in `packages`"),
        ("[\"packages/a\", \"packages\"]", "`packages/a` lies in `packages`"),
    ] {
        let checked = checked(given);
        assert!(checked.config.is_some(), "{given}: {:?}", checked.errors);
        assert!(
            checked.warnings.len() == 1 && checked.warnings[0].message.contains(why),
            "{:?}",
            checked.warnings
        );
    }
}

/// What is said of a `fleet` table with these lines.
fn of_fleet(lines: &str) -> Vec<String> {
    let text = format!("{SETTINGS}\nenabled = true\n[spec_ops.webhooks.fleet]\n{lines}\n");
    let environment = Environment::fixed([("ENGINE", "postgresql://u:p@h/d")]);
    let loaded = check(None, &text, Path::new("/repo"), &environment, (true, None));
    loaded.errors.iter().map(|error| error.message.clone()).collect()
}

#[cfg(not(feature = "fleet"))]
#[test]
fn a_program_that_was_not_built_for_a_fleet_says_so() {
    let said = of_fleet("url_env = \"ENGINE\"\nnamespace = \"payments\"");
    assert_eq!(said, ["`fleet` needs a program that was built for it, and this one was not"]);
}

#[cfg(feature = "fleet")]
#[test]
fn a_fleets_table_is_checked_as_a_whole() {
    let well = "url_env = \"ENGINE\"\nnamespace = \"payments\"";
    assert_eq!(of_fleet(well), Vec::<String>::new());
    for (lines, said) in [
        ("", vec!["`fleet` does not say where the cluster is", "`fleet` names no namespace"]),
        (
            "url_env = \"postgresql://u:secret@h/d\"\nnamespace = \"Payments\"\nrole = \"x\"\nlease_s = 4\n\
             durability = \"no\"\nzone = 1",
            vec![
                "which is no name of a variable",
                "`namespace`",
                "`role`",
                "`lease_s` is 4",
                "`durability`",
                "`zone`",
            ],
        ),
        (&format!("{well}\nrole = \"deliver\""), vec![]),
        ("url_env = \"ELSEWHERE\"\nnamespace = \"p\"", vec!["ELSEWHERE is not set"]),
    ] {
        let found = of_fleet(lines);
        let is_said = |words: &&str| found.iter().any(|error| error.contains(*words));
        assert!(said.iter().all(is_said) && found.len() == said.len(), "{lines}: {found:?}");
        assert!(found.iter().all(|error| !error.contains("secret@")), "{found:?}");
    }
}
