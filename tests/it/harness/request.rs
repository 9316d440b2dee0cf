//! What tests ask of a request beyond the kit.

use serde_json::Value;
use spec_notify::testing::Request;

/// See the module's first line.
pub(crate) trait RequestExt {
    /// A header; empty where there is none.
    fn text_of(&self, header: &str) -> &str;

    /// The body. Every payload of ours that a test looks at has to fit the published schema.
    fn told(&self) -> Value;
}

impl RequestExt for Request {
    fn text_of(&self, header: &str) -> &str {
        self.header(header).unwrap_or_default()
    }

    fn told(&self) -> Value {
        let body: Value = serde_json::from_slice(self.body()).unwrap();
        if body.get("schemaVersion").is_some() {
            let validator = super::payload_schema();
            let errors = validator.iter_errors(&body);
            let errors: Vec<String> =
                errors.map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{errors:?} in {body:#}");
        }
        body
    }
}
