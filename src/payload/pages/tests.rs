//! Where links lead, forge by forge, and what never becomes one.

use super::*;
use crate::event::{IdempotencyKey, SpecId};

fn pages(forge: Option<Forge>, template: Option<&str>) -> Pages {
    Pages {
        repo: "o/n".to_owned(),
        home: Some("https://h.example/o/n".to_owned()),
        forge,
        branch: Some("feat/#1 (x)".to_owned()),
        commit: Some("c0ffee".to_owned()),
        job: None,
        request: None,
        template: template.map(|template| template.parse().unwrap()),
        files: Vec::new(),
    }
}

fn event() -> Event {
    let spec: SpecId = "SPEC-1".parse().unwrap();
    let mut event = Event::new(
        EventKind::PipelineCompleted,
        spec.clone(),
        IdempotencyKey::of_step(&spec, "pipeline", 1, None),
    );
    event.event.status = Some(Status::Success);
    event.spec.branch = Some("feat/#1 (x)".to_owned());
    let source = serde_json::json!({"repo": "o/n", "commit": "c0ffee"});
    event.source = serde_json::from_value(source).unwrap();
    event
}

/// Branch, commit and pull request.
fn all(pages: &Pages) -> [Option<String>; 3] {
    let event = event();
    let request = pages.links(&event).0.first().map(|link| link.url.clone());
    [pages.branch(&event), pages.commit(&event), request]
}

#[test]
fn each_service_has_its_own_forms() {
    let branch = "feat/%231%20%28x%29";
    for (forge, forms) in [
        (Forge::GitHub, ["/tree/BRANCH", "/commit/c0ffee", "/compare/BRANCH?expand=1"]),
        (
            Forge::GitLab,
            [
                "/-/tree/BRANCH",
                "/-/commit/c0ffee",
                "/-/merge_requests/new?merge_request%5Bsource_branch%5D=BRANCH",
            ],
        ),
        (Forge::Bitbucket, ["/branch/BRANCH", "/commits/c0ffee", "/pull-requests/new?source=BRANCH"]),
        (Forge::Gitea, ["/src/branch/BRANCH", "/commit/c0ffee", "/compare/BRANCH"]),
    ] {
        let expected =
            forms.map(|form| Some(format!("https://h.example/o/n{}", form.replace("BRANCH", branch))));
        assert_eq!(all(&pages(Some(forge), None)), expected);
        assert_eq!(all(&pages(None, Some(forge.as_str()))), expected, "by its name");
    }
    assert_eq!(all(&pages(None, None)), [None, None, None], "an unknown host");
    let template = "https://git.corp.example/{repo}?at={branch}&p={path}";
    let filled = Some(format!("https://git.corp.example/o/n?at={branch}&p="));
    assert_eq!(all(&pages(Some(Forge::GitHub), Some(template))), [filled, None, None]);
}

#[test]
fn in_the_job_of_a_pull_request_the_branch_leads_to_it_and_none_is_opened() {
    for (forge, form) in [
        (Forge::GitHub, "/pull/47"),
        (Forge::GitLab, "/-/merge_requests/47"),
        (Forge::Bitbucket, "/pull-requests/47"),
        (Forge::Gitea, "/pulls/47"),
    ] {
        let pages = Pages { request: Some("47".to_owned()), ..pages(Some(forge), None) };
        let [branch, _, request] = all(&pages);
        assert_eq!((branch, request), (Some(format!("https://h.example/o/n{form}")), None));
    }
    let template = "https://git.corp.example/{repo}?at={branch}";
    let pages = Pages { request: Some("47".to_owned()), ..pages(None, Some(template)) };
    assert!(pages.branch(&event()).unwrap().ends_with("?at=feat/%231%20%28x%29"));
    let number = |name: &str, value: &str| request(|known| (known == name).then(|| value.to_owned()));
    for (value, expected) in [
        ("refs/pull/47/merge", Some("47")),
        ("refs/pull/4a/merge", None),
        ("refs/pull//merge", None),
        ("refs/heads/main", None),
    ] {
        assert_eq!(number("GITHUB_REF", value).as_deref(), expected, "{value}");
    }
    assert_eq!(number("CI_MERGE_REQUEST_IID", "5").as_deref(), Some("5"));
}

#[test]
fn three_links_at_most_and_the_rest_of_the_evidence_is_counted() {
    let mut event = event();
    let paths: Vec<String> = (0..50).map(|n| format!("docs/e (1)/{n}.json")).collect();
    event.evidence = serde_json::from_value(serde_json::json!({"paths": paths})).unwrap();
    let job = Some("https://ci.example/1".to_owned());
    for (forge, way) in [
        (Forge::GitHub, "/blob/"),
        (Forge::GitLab, "/-/blob/"),
        (Forge::Bitbucket, "/src/"),
        (Forge::Gitea, "/src/commit/"),
    ] {
        let pages = Pages { files: paths[..8].to_vec(), job: job.clone(), ..pages(Some(forge), None) };
        let (links, more) = pages.links(&event);
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        assert_eq!((names, more), (vec!["Open a PR", "0.json", "1.json"], 48));
        let url = format!("https://h.example/o/n{way}c0ffee/docs/e%20%281%29/0.json");
        assert_eq!(links[1].url, url);
        let names =
            |pages: &Pages| pages.links(&event).0.into_iter().map(|link| link.name).collect::<Vec<_>>();
        let none = Pages { files: Vec::new(), ..pages.clone() };
        assert_eq!(names(&none), ["Open a PR", "CI run"], "else the CI run");
        assert_eq!(none.links(&event).1, 0);
    }
    let template = "https://git.corp.example/{repo}/{commit}/{path}";
    let pages = Pages { files: paths[..1].to_vec(), ..pages(None, Some(template)) };
    let url = "https://git.corp.example/o/n/c0ffee/docs/e%20%281%29/0.json";
    assert_eq!(pages.links(&event).0[0].url, url);
}

#[test]
fn hosts_are_known_by_their_names() {
    for (host, forge) in [
        ("github.com", Some(Forge::GitHub)),
        ("github.corp.example", Some(Forge::GitHub)),
        ("gitlab.com", Some(Forge::GitLab)),
        ("my-gitlab.example", Some(Forge::GitLab)),
        ("bitbucket.org", Some(Forge::Bitbucket)),
        ("codeberg.org", Some(Forge::Gitea)),
        ("gitea.example", Some(Forge::Gitea)),
        ("git.corp.example", None),
        ("notgithub.example", None),
        ("bitbucket.corp.example", None),
    ] {
        assert_eq!(Forge::of_host(host), forge, "{host}");
    }
}

#[test]
fn what_is_of_another_repo_branch_or_commit_has_no_page() {
    let found = pages(Some(Forge::GitHub), None);
    let mut other = event();
    other.spec.branch = Some("main".to_owned());
    other.source.as_mut().unwrap().commit = Some("beef".to_owned());
    assert_eq!((found.branch(&other), found.commit(&other)), (None, None));
    assert_eq!(found.links(&other), (Vec::new(), 0));
    other.source.as_mut().unwrap().repo = Some("o/other".to_owned());
    assert!(found.are_of(&event()) && !found.are_of(&other));
    let long = Pages { branch: Some("x".repeat(400)), ..found };
    other.spec.branch = long.branch.clone();
    assert_eq!(long.branch(&other), None, "a long address crowds out what there is to say");
}

#[test]
fn a_ci_job_has_a_page_where_its_variables_are_such() {
    let job = |variables: &[(&str, &str)]| {
        job(|name| Some((*variables.iter().find(|(known, _)| *known == name)?.1).to_owned()))
    };
    let github =
        [("GITHUB_SERVER_URL", "https://github.com"), ("GITHUB_REPOSITORY", "o/n"), ("GITHUB_RUN_ID", "47")];
    assert_eq!(job(&github).as_deref(), Some("https://github.com/o/n/actions/runs/47"));
    assert_eq!(job(&github[..2]), None);
    let gitlab = |url| job(&[("CI_JOB_URL", url)]);
    let page = "https://gitlab.example/o/n/-/jobs/4711";
    assert_eq!(gitlab(page).as_deref(), Some(page));
    for none in ["https://u:p@gitlab.example/x", "javascript:alert(1)", "https://h/a)b", "x", "https://h/|x>"]
    {
        assert_eq!(gitlab(none), None, "{none}");
    }
}
