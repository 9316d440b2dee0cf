//! Recognises a URL that is itself a credential, by its host, path and query.

use url::Url;

use crate::payload::service_of;

/// Names of query parameters that hold credentials.
const CREDENTIALS: [&str; 12] = [
    "access_token",
    "api_key",
    "apikey",
    "auth",
    "code",
    "key",
    "password",
    "secret",
    "sig",
    "signature",
    "token",
    "x-api-key",
];

/// Whether knowing the URL is enough to post with it.
pub(super) fn is_credential(url: &Url) -> bool {
    let names_one = |name: &str| CREDENTIALS.contains(&name.to_ascii_lowercase().as_str());
    let has_value = url.query_pairs().any(|(name, value)| names_one(&name) && !value.is_empty());
    url.password().is_some() || has_value || service_of(url).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_lets_one_in_is_known() {
        for (url, expected) in [
            ("https://hooks.slack.com/services/T0/B0/x", true),
            ("https://corp.example/hook?sig=abc", true),
            ("https://corp.example/hook?Token=abc", true),
            ("https://u:p@corp.example/hook", true),
            ("https://u@corp.example/hook", false),
            ("https://corp.example/hook?team=a", false),
            ("https://corp.example/hook?key=", false),
        ] {
            assert_eq!(is_credential(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
