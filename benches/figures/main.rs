//! What the product does in a second, beside the parts it stands on, measured in the same run:
//! `cargo bench`.
//!
//! Every figure is the median of interleaved rounds. The ratio is what travels to other machines;
//! the rest does not. `docs/explain/performance.md` has the table as it was measured, and what
//! bounds each figure.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that cannot measure has nothing else to do"
)]

mod accept;
mod backlog;
mod client;
mod fairness;
#[cfg(feature = "fleet")]
mod fleet;
mod kill;
mod latency;
mod machine;
mod options;
mod parts;
mod peers;
mod port;
mod process;
mod raw;
mod receiver;
mod repo;
mod table;
mod throughput;

use std::process::ExitCode;

use options::{Groups, Options};
use receiver::Receiver;
use table::Figure;

/// What measures figures, and which.
type Group = (&'static [u32], fn(&Bench) -> Vec<Figure>);

/// In the table's order.
const GROUPS: &[Group] = &[
    (&[1], throughput::many_endpoints),
    (&[2], throughput::one_endpoint),
    (&[3], accept::one_emitter),
    (&[4], accept::many_emitters),
    (&[5], latency::idle),
    (&[6], process::emit),
    (&[7, 8, 9], backlog::waiting),
    (&[10], fairness::beside_dead_endpoints),
    (&[10], fairness::beside_slow_endpoints),
    (&[11], backlog::retries_within_the_hour),
    (&[12], process::guardrail),
    (&[13], latency::burst),
    (&[14], process::size),
    (&[15], latency::watched),
    (&[16], kill::duplicates),
    (&[17], process::pipe),
];

/// Those of a fleet: all or none, because they share a cluster.
#[cfg(feature = "fleet")]
const FLEET: &[Group] = &[(&[20, 21, 22, 23, 24, 25], fleet::all)];

/// A program without a fleet has none to measure.
#[cfg(not(feature = "fleet"))]
const FLEET: &[Group] = &[];

/// Those beside a peer.
const PEERS: &[Group] = &[(&[1, 2, 3, 4], peers::one_endpoint), (&[1, 2, 3, 4], peers::ten_endpoints)];

/// The parts alone: how near to the targets of these figures they come.
const PARTS: &[Group] = &[
    (&[1], parts::many_endpoints),
    (&[2], parts::one_endpoint),
    (&[3], parts::one_emitter),
    (&[4], parts::many_emitters),
];

/// How much is measured, and the endpoint of everything.
struct Bench {
    is_smoke: bool,
    receiver: Receiver,
}

impl Bench {
    /// Rounds of a figure.
    fn rounds(&self) -> usize {
        self.count(5, 1)
    }

    /// Rounds of a figure that takes its time: 7 to 9, 10b and 11.
    fn slow_rounds(&self) -> usize {
        self.count(3, 1)
    }

    /// `full`, or as few as show that it works.
    fn count(&self, full: usize, smoke: usize) -> usize {
        if self.is_smoke { smoke } else { full }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(receiver::ARGUMENT) => receiver::serve().expect("the receiver serves"),
        Some(client::ARGUMENT) => client::ask(&arguments[1], &arguments[2]).expect("an answer"),
        _ => match Options::parse(&arguments) {
            Ok(options) => return measure(&options),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        },
    }
    ExitCode::SUCCESS
}

fn measure(options: &Options) -> ExitCode {
    let groups = match options.groups {
        Groups::Table => GROUPS,
        Groups::Fleet => FLEET,
        Groups::Peers => PEERS,
        Groups::Parts => PARTS,
    };
    if matches!(options.groups, Groups::Peers)
        && let Err(error) = peers::installed()
    {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let receiver = Receiver::spawn().expect("a receiver process");
    let bench = Bench { is_smoke: options.is_smoke, receiver };
    let mut figures = Vec::new();
    for (numbers, group) in groups.iter().filter(|(numbers, _)| options.wants_any(numbers)) {
        eprintln!("measuring {numbers:?}");
        figures.extend(group(&bench).into_iter().filter(|figure| options.wants(figure.number())));
    }
    // What was measured once says that it works and nothing about time.
    let judged = !options.is_smoke;
    if options.is_json {
        println!("{}", table::json(&figures, judged));
    } else {
        table::print(&figures, judged);
    }
    ExitCode::from(u8::from(options.is_check && judged && figures.iter().any(Figure::is_missed)))
}
