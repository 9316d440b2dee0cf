//! What `--format` names: the form of the results, or that of a body or a report.

use std::sync::LazyLock;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::report;
use crate::payload;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Human,
    Json,
    /// That of a body, for the one command that shows one.
    Of(payload::Format),
    /// That of a report, for the one command that makes one.
    Report(report::Form),
}

impl Format {
    /// The format of a body, where one is named.
    pub(super) fn of_body(self) -> Option<payload::Format> {
        match self {
            Self::Of(format) => Some(format),
            Self::Human | Self::Json | Self::Report(_) => None,
        }
    }

    /// The form of a report; Markdown where none is named.
    pub(super) fn of_report(self) -> report::Form {
        match self {
            Self::Report(form) => form,
            Self::Human | Self::Json | Self::Of(_) => report::Form::Markdown,
        }
    }
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<Format>> = LazyLock::new(|| {
            let bodies = payload::Format::ALL.iter().map(|format| Format::Of(*format));
            let reports = report::Form::ALL.iter().map(|form| Format::Report(*form));
            [Format::Human, Format::Json].into_iter().chain(bodies).chain(reports).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Human => PossibleValue::new("human"),
            Self::Json => PossibleValue::new("json"),
            Self::Of(format) => PossibleValue::new(format.as_str()).hide(true),
            Self::Report(form) => PossibleValue::new(form.as_str()).hide(true),
        })
    }
}
