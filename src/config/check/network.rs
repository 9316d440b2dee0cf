//! The network settings of a subscription: URL, secrets, extra headers, proxy, TLS files.

use zeroize::Zeroizing;

use super::credential::is_credential;
use super::{At, Checker, Table, shown};
use crate::config::{ExtraHeader, HeaderValue, Problem};
use crate::http::{Proxy, TlsFiles};
use crate::payload::{Service, service_of};
use crate::secret::{Endpoint, NOT_SHOWN, Secret, shown_variable};

/// Headers that this program sets: an extra one of the same name would change what is signed or how
/// it is sent.
const OUR_HEADERS: [&str; 12] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Length in bytes below which a secret causes a warning.
const SHORT_SECRET: usize = 16;

/// Whether a text may be a path and not the key itself.
fn may_be_a_path(text: &str) -> bool {
    !text.contains("-----") && !text.contains(char::is_control)
}

impl Checker<'_, '_> {
    /// `url` or the value of `url_env`; neither is repeated in a message.
    pub(super) fn endpoint(
        &mut self,
        table: &Table<'_, '_>,
        needed: bool,
        insecure: bool,
        has_format: bool,
    ) -> Option<Endpoint> {
        let url = table.string("url", self.findings);
        let url_env = table.string("url_env", self.findings);
        let (key, text, span) = match (url, url_env) {
            (Some(url), None) => ("url".to_owned(), Zeroizing::new(url.value), url.span),
            (None, Some(name)) => match self.environment.get(&name.value) {
                Some(value) => (format!("url_env ({})", shown_variable(&name.value)), value, name.span),
                None => {
                    if needed {
                        self.not_set("url_env", &name);
                    }
                    return None;
                }
            },
            (both, _) => {
                let (message, help) = match both {
                    Some(_) => ("a subscription has both `url` and `url_env`", "keep one of them"),
                    None => (
                        "a subscription has neither `url` nor `url_env`",
                        "add url = \"https://…\"; if the URL is a secret, add url_env = \"NAME\"",
                    ),
                };
                self.findings.error(Some(table.span.clone()), message, help);
                return None;
            }
        };
        match Endpoint::parse(&text, insecure) {
            Ok(endpoint) => {
                let service = service_of(endpoint.expose());
                if let Some(Service { name, format, note }) = service.filter(|_| !has_format) {
                    self.findings.warn(
                        Some(span.clone()),
                        format_args!(
                            "{} is {name}, which does not understand the spec-kit payload",
                            endpoint.host()
                        ),
                        format_args!("add format = \"{format}\"{note}"),
                    );
                }
                if key == "url" && is_credential(endpoint.expose()) {
                    self.findings.warn(
                        Some(span),
                        "`url` is a credential: anyone who can read this file can post with it",
                        "put it into an environment variable or the env_file, and name that: \
                         url_env = \"NAME\"",
                    );
                }
                Some(endpoint)
            }
            Err(error) => {
                self.findings.error(
                    Some(span),
                    format_args!("`{key}`: {error}"),
                    "correct the URL (it is not shown here: it may be a credential)",
                );
                None
            }
        }
    }

    pub(super) fn not_set(&mut self, key: &str, name: &At<String>) {
        self.is_variable_missing = true;
        self.findings.error(
            Some(name.span.clone()),
            format_args!("`{key}`: the environment variable {} is not set", shown_variable(&name.value)),
            match shown_variable(&name.value) {
                NOT_SHOWN => "give the name of a variable that holds it, such as MY_SECRET".to_owned(),
                name => format!("export {name}=…, or set active = false"),
            },
        );
    }

    pub(super) fn secret(&mut self, key: &str, name: &At<String>, needed: bool) {
        let Some(value) = self.environment.get(&name.value) else {
            if needed {
                self.not_set(key, name);
            }
            return;
        };
        match Secret::parse(&value) {
            Err(error) => self.findings.error(
                Some(name.span.clone()),
                format_args!("`{key}`: the secret in {}: {error}", shown_variable(&name.value)),
                "a whsec_ secret is whsec_ and the base64 of 24 to 64 random bytes; \
                 any other text is taken as it is",
            ),
            Ok(secret) if secret.key().len() < SHORT_SECRET => self.findings.warn(
                Some(name.span.clone()),
                format_args!(
                    "`{key}`: the secret in {} is shorter than {SHORT_SECRET} bytes",
                    shown_variable(&name.value)
                ),
                "use a random one of 32 bytes",
            ),
            Ok(_) => {}
        }
    }

    /// `headers`: names and values that can be sent, without those this program sets.
    pub(super) fn headers(
        &mut self,
        table: &Table<'_, '_>,
        endpoint: Option<&Endpoint>,
        needed: bool,
    ) -> Vec<ExtraHeader> {
        let Some(headers) = table.table("headers", self.findings) else { return Vec::new() };
        let mut extra = Vec::new();
        for (key, text) in headers.texts(self.findings) {
            let name = key.value.to_ascii_lowercase();
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            let is_ours = OUR_HEADERS.contains(&name.as_str())
                || name.starts_with("x-speckit-")
                || name.starts_with("webhook-");
            if name.is_empty() || !name.bytes().all(is_token) || is_ours {
                self.findings.error(
                    Some(key.span),
                    format_args!("`headers`: `{}` cannot be set", shown(&key.value)),
                    "give a header's name, and none that signs, describes or addresses the request",
                );
                continue;
            }
            // It is a credential, which must not be in a file of the repo. With a user in the URL
            // there would be two.
            if name == "authorization" && !text.value.starts_with("env:") {
                self.findings.error(
                    Some(text.span),
                    "`headers`: the value of `authorization` stands in the config",
                    "put it into an environment variable and name that: Authorization = \"env:NAME\"",
                );
                continue;
            }
            if name == "authorization" && endpoint.is_some_and(Endpoint::has_userinfo) {
                self.findings.error(
                    Some(key.span),
                    "`headers`: `authorization` is given twice: the URL has a user too",
                    "keep one of them",
                );
                continue;
            }
            if extra.iter().any(|given: &ExtraHeader| given.name == name) {
                self.findings.error(
                    Some(key.span),
                    format_args!("`headers`: `{name}` is given twice: upper and lower case are the same"),
                    "keep one of them",
                );
                continue;
            }
            let value = match text.value.strip_prefix("env:") {
                Some(variable) => {
                    let named = At { value: variable.to_owned(), span: text.span.clone() };
                    if needed && self.environment.get(variable).is_none() {
                        self.not_set("headers", &named);
                    }
                    HeaderValue::Environment(variable.to_owned())
                }
                None => HeaderValue::Fixed(text.value.clone()),
            };
            if !HeaderValue::is_sendable(&text.value) {
                self.findings.error(
                    Some(text.span),
                    format_args!("`headers`: the value of `{name}` has control characters"),
                    "write it on one line, or name an environment variable: \"env:NAME\"",
                );
            }
            extra.push(ExtraHeader { name, value });
        }
        extra
    }

    /// `proxy`, else the environment's proxy. Neither is repeated in a message.
    pub(super) fn proxy(
        &mut self,
        table: &Table<'_, '_>,
        endpoint: Option<&Endpoint>,
        needed: bool,
    ) -> Option<Proxy> {
        let Some(given) = table.string("proxy", self.findings) else {
            let of_environment = |name: &str| self.environment.get(name).map(|value| value.to_string());
            return match Proxy::of_environment(endpoint?, of_environment) {
                Ok(proxy) => proxy,
                Err((name, error)) => {
                    if needed {
                        let message = format!("the environment variable {name}: {error}");
                        let help = "correct it, or name the host in NO_PROXY";
                        self.findings.errors.push(Problem::general(message, help));
                    }
                    None
                }
            };
        };
        let text = match given.value.strip_prefix("env:") {
            Some(name) => match self.environment.get(name) {
                Some(value) => value.to_string(),
                None => {
                    if needed {
                        self.not_set("proxy", &At { value: name.to_owned(), span: given.span });
                    }
                    return None;
                }
            },
            None => given.value,
        };
        if text == "none" {
            return None;
        }
        let parsed = Proxy::parse(&text);
        let help = "write http://host:port or \"none\"; if it has credentials, write \"env:NAME\"";
        parsed
            .map_err(|error| self.findings.error(Some(given.span), format_args!("`proxy`: {error}"), help))
            .ok()
    }

    /// `ca_file`, `client_cert_file` and `client_key_file`, with their content checked.
    pub(super) fn tls_files(&mut self, table: &Table<'_, '_>, needed: bool) -> TlsFiles {
        let mut file = |key: &'static str| table.string(key, self.findings);
        let (ca, certificate, key) = (file("ca_file"), file("client_cert_file"), file("client_key_file"));
        let span = [&ca, &certificate, &key].into_iter().flatten().next().map(|text| text.span.clone());
        let path = |text: &At<String>| self.repo.join(&text.value);
        let client = match (&certificate, &key) {
            (Some(certificate), Some(key)) => Some((path(certificate), path(key))),
            (None, None) => None,
            _ => {
                let message = "`client_cert_file` and `client_key_file` belong together";
                self.findings.error(span.clone(), message, "give both, or neither");
                None
            }
        };
        let files = TlsFiles { ca: ca.as_ref().map(path), client };
        if needed && let Err(error) = files.check() {
            let given = [&ca, &certificate, &key].into_iter().flatten();
            let message = match given.into_iter().all(|text| may_be_a_path(&text.value)) {
                true => error.to_string(),
                false => format!("a file of it: {NOT_SHOWN}"),
            };
            self.findings.error(span, message, error.help());
        }
        files
    }
}
