//! The manual pages.

use std::fs;
use std::process::Command;

use crate::harness::{Sandbox, has_tool};

/// The pages by their names, and the folder in which they are.
fn pages(sandbox: &Sandbox) -> Vec<(String, String)> {
    let ran = sandbox.run(&["man", "--out", "pages"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let files = fs::read_dir(sandbox.path().join("pages")).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[test]
fn there_is_a_page_of_every_command_with_what_people_look_for() {
    let sandbox = Sandbox::empty();
    let pages = pages(&sandbox);
    let page = |name: &str| &pages.iter().find(|(of, _)| of == name).unwrap_or_else(|| panic!("{name}")).1;
    let all = page("spec-notify");
    for section in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "GLOBAL OPTIONS",
        "COMMANDS",
        "EXIT STATUS",
        "FILES",
        "ENVIRONMENT",
    ] {
        assert!(
            all.contains(&format!(".SH {section}\n")) || all.contains(&format!(".SH \"{section}\"\n")),
            "{section}: {all}"
        );
    }
    for (name, text) in &pages {
        assert!(text.is_ascii(), "{name}: what shows it may not know that it is UTF-8");
        assert!(all.contains(&name.replace('-', "\\-")), "{name} is not on the page of all");
        for section in [".SH \"EXIT STATUS\"", ".SH EXAMPLE", ".SH \"SEE ALSO\""] {
            assert!(
                text.contains(section) || section == ".SH EXAMPLE" && name == "spec-notify-top",
                "{name} has no {section}"
            );
        }
    }
    assert_eq!(&sandbox.run(&["man", "list"]).stdout, page("spec-notify-list"));
    assert_eq!(&sandbox.run(&["man"]).stdout, all);
    let none = sandbox.run(&["man", "lst"]);
    assert!(none.code == 2 && none.stderr.contains("is it spec-notify-list?"), "{none:?}");
    for hidden in ["keep", "complete"] {
        assert!(!pages.iter().any(|(name, _)| *name == format!("spec-notify-{hidden}")), "{hidden}");
    }
}

#[test]
fn the_pages_are_rendered_without_a_warning() {
    let sandbox = Sandbox::empty();
    let pages = pages(&sandbox);
    for (tool, arguments) in [("groff", &["-man", "-ww", "-Tutf8"][..]), ("mandoc", &["-Tlint", "-Wwarning"])]
    {
        if !has_tool(tool) {
            continue;
        }
        for (name, _) in &pages {
            let file = sandbox.path().join("pages").join(format!("{name}.1"));
            let output = Command::new(tool).args(arguments).arg(&file).output().unwrap();
            // mandoc says what it finds on stdout; that no date is given is meant so.
            let said = if tool == "groff" { &output.stderr } else { &output.stdout };
            let said = String::from_utf8_lossy(said);
            let found: Vec<&str> = said.lines().filter(|line| !line.contains("missing date")).collect();
            assert!(found.is_empty(), "{tool} of {name}: {found:?}");
        }
    }
}
