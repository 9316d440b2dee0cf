//! The arguments of `cargo bench -- …`.

/// Figures that are measured together.
#[derive(Clone, Copy)]
pub(super) enum Groups {
    /// Of spec-notify in one repo, beside the parts it stands on.
    Table,
    /// Of a fleet, in the place of the table's.
    Fleet,
    /// Beside a peer, in the place of the table's.
    Peers,
    /// Of the parts alone, in the place of the table's.
    Parts,
}

/// What was asked for.
pub(super) struct Options {
    pub(super) is_json: bool,
    pub(super) is_check: bool,
    pub(super) is_smoke: bool,
    pub(super) groups: Groups,
    only: Vec<u32>,
}

impl Options {
    pub(super) fn parse(arguments: &[String]) -> Result<Self, String> {
        // Cargo says `--bench` where it measures; `cargo test --bench figures` does not, and wants
        // to know that it works.
        let (is_json, is_check) = (false, false);
        let mut options = Self { is_json, is_check, is_smoke: true, groups: Groups::Table, only: Vec::new() };
        options.is_smoke = !arguments.iter().any(|argument| argument == "--bench");
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => {}
                "--json" => options.is_json = true,
                "--check" => options.is_check = true,
                "--smoke" => options.is_smoke = true,
                "--peers" => options.groups = Groups::Peers,
                "--parts" => options.groups = Groups::Parts,
                "--fleet" if cfg!(feature = "fleet") => options.groups = Groups::Fleet,
                "--fleet" => {
                    return Err(
                        "--fleet needs a bench that is built for it: cargo bench --features fleet".to_owned()
                    );
                }
                "--only" => options.only = numbers(arguments.next())?,
                other => {
                    return Err(format!(
                        "unknown argument {other}: there are --json, --check, --smoke, --fleet, --peers, --parts and --only N[,N]"
                    ));
                }
            }
        }
        Ok(options)
    }

    pub(super) fn wants(&self, number: u32) -> bool {
        self.only.is_empty() || self.only.contains(&number)
    }

    pub(super) fn wants_any(&self, numbers: &[u32]) -> bool {
        numbers.iter().any(|number| self.wants(*number))
    }
}

fn numbers(list: Option<&String>) -> Result<Vec<u32>, String> {
    let list = list.ok_or("--only wants numbers of figures, such as 3,4")?;
    list.split(',')
        .map(|number| number.parse().map_err(|_| format!("{number} is no figure's number")))
        .collect()
}
