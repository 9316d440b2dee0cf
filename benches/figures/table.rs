//! What was measured, beside its reference and its target: for people and for machines.

use serde_json::{Value, json};

use super::machine;

/// What a figure must reach.
#[derive(Clone, Copy)]
pub(super) enum Target {
    RatioAtLeast(f64),
    RatioAtMost(f64),
    /// In the figure's unit.
    AtMost(f64),
    /// As [`AtMost`](Self::AtMost), and not reached at the bound itself.
    Under(f64),
}

/// One line of the table.
pub(super) struct Figure {
    /// The figure's number, a letter before it where it is of a group beside the table's, and one
    /// behind it where it has several.
    label: &'static str,
    what: String,
    unit: &'static str,
    ours: f64,
    reference: Option<f64>,
    target: Target,
    /// What belongs to it and is no figure of its own.
    note: Option<String>,
}

impl Figure {
    pub(super) fn new(
        label: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        ours: f64,
        target: Target,
    ) -> Self {
        Self { label, what: what.into(), unit, ours, reference: None, target, note: None }
    }

    pub(super) fn over(self, reference: f64) -> Self {
        Self { reference: Some(reference), ..self }
    }

    pub(super) fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    pub(super) fn number(&self) -> u32 {
        self.label.trim_matches(char::is_alphabetic).parse().expect("a label has a number")
    }

    fn ratio(&self) -> Option<f64> {
        self.reference.map(|reference| self.ours / reference).filter(|ratio| ratio.is_finite())
    }

    fn is_met(&self) -> bool {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        match self.target {
            Target::RatioAtLeast(bound) => ratio >= bound,
            Target::RatioAtMost(bound) => ratio <= bound,
            Target::AtMost(bound) => self.ours <= bound,
            Target::Under(bound) => self.ours < bound,
        }
    }

    pub(super) fn is_missed(&self) -> bool {
        !self.is_met()
    }

    fn target(&self) -> String {
        match self.target {
            Target::RatioAtLeast(bound) => format!("ratio >= {bound}"),
            Target::RatioAtMost(bound) => format!("ratio <= {bound}"),
            Target::AtMost(bound) => format!("<= {bound} {}", self.unit),
            Target::Under(bound) => format!("< {bound} {}", self.unit),
        }
    }

    fn cells(&self, judged: bool) -> [String; 7] {
        let value = |value: f64| format!("{} {}", short(value), self.unit);
        [
            self.label.to_owned(),
            self.what.clone(),
            value(self.ours),
            self.reference.map(value).unwrap_or_default(),
            self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            self.target(),
            verdict(self.is_met(), judged).to_owned(),
        ]
    }

    fn json(&self, judged: bool) -> Value {
        json!({
            "figure": self.label, "what": self.what, "unit": self.unit, "ours": self.ours,
            "reference": self.reference, "ratio": self.ratio(), "target": self.target(),
            "met": judged.then(|| self.is_met()), "note": self.note,
        })
    }
}

fn verdict(is_met: bool, judged: bool) -> &'static str {
    match (judged, is_met) {
        (false, _) => "not judged",
        (true, true) => "met",
        (true, false) => "missed",
    }
}

/// Three digits that count; of a whole number all.
fn short(value: f64) -> String {
    let decimals = if value >= 100.0 || value.fract() == 0.0 {
        0
    } else if value >= 10.0 {
        1
    } else if value >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.decimals$}")
}

/// A table as Markdown reads it, so that it can be put into a page as it is.
pub(super) fn print(figures: &[Figure], judged: bool) {
    let head = ["#", "what", "ours", "reference", "ratio", "target", "met"].map(str::to_owned);
    let rows: Vec<[String; 7]> =
        std::iter::once(head).chain(figures.iter().map(|figure| figure.cells(judged))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 7] = std::array::from_fn(width);
    for (at, row) in rows.iter().enumerate() {
        println!("{}", line(row, &widths));
        if at == 0 {
            println!("|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"));
        }
    }
    println!();
    for (label, note) in figures.iter().filter_map(|figure| Some((figure.label, figure.note.as_ref()?))) {
        println!("{label}: {note}");
    }
    println!("{}", machine::description());
}

fn line(row: &[String; 7], widths: &[usize; 7]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} |"));
    format!("|{}", cells.collect::<String>())
}

pub(super) fn json(figures: &[Figure], judged: bool) -> Value {
    let figures: Vec<Value> = figures.iter().map(|figure| figure.json(judged)).collect();
    json!({"machine": machine::description(), "figures": figures})
}
