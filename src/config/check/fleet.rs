//! The `fleet` table.

use std::time::Duration;

use super::{At, Checker, Table};
use crate::config::fleet::Durability;
use crate::config::{FleetConfig, FleetRole};
use crate::secret::{NOT_SHOWN, is_variable, may_be_shown};

impl Checker<'_, '_> {
    /// `fleet`; `None` where there is none, or where it is wrong.
    pub(super) fn fleet(&mut self, table: &Table<'_, '_>, enabled: bool) -> Option<FleetConfig> {
        let fleet = table.table("fleet", self.findings)?;
        if !cfg!(feature = "fleet") {
            self.findings.error(
                Some(fleet.span.clone()),
                "`fleet` needs a program that was built for it, and this one was not",
                "install a package, or build with --features fleet; without the table this machine delivers \
                 by itself",
            );
            return None;
        }
        let url_env = fleet.string("url_env", self.findings);
        let namespace = fleet.string("namespace", self.findings);
        let role = fleet.string("role", self.findings);
        let lease_s = fleet.integer("lease_s", 15, 5..=60, self.findings);
        let durability = fleet.string("durability", self.findings);
        let tls_files = self.tls_files(&fleet, enabled);
        fleet.refuse_unknown(self.findings);
        let url_env = self.url_env(&fleet, url_env, enabled);
        let help = "for example \"payments\"";
        let namespace = match namespace {
            Some(namespace) => self.parsed("namespace", &namespace, help),
            None => {
                let what = "`fleet` names no namespace";
                let help = "add namespace = \"payments\": it keeps repos apart that share the cluster";
                self.findings.error(Some(fleet.span.clone()), what, help);
                None
            }
        };
        let help = "emit; or deliver, if this machine sends too";
        let role = role.map_or(Some(FleetRole::Emit), |role| self.parsed("role", &role, help));
        let role = self.role.or(role);
        let help = "replicated; managed, if the storage of the service replicates; single for one machine";
        let durability =
            durability.map_or(Some(Durability::Replicated), |text| self.parsed("durability", &text, help));
        Some(FleetConfig {
            url_env: url_env?,
            namespace: namespace?,
            role: role?,
            lease: Duration::from_secs(lease_s),
            durability: durability?,
            tls_files,
        })
    }

    /// `url_env`: the name of a variable, whose value is never repeated.
    fn url_env(&mut self, fleet: &Table<'_, '_>, name: Option<At<String>>, enabled: bool) -> Option<String> {
        let Some(name) = name else {
            self.findings.error(
                Some(fleet.span.clone()),
                "`fleet` does not say where the cluster is",
                "add url_env = \"SPEC_NOTIFY_ENGINE_URL\": the variable holds \
                 postgresql://user:password@host1,host2,host3/database",
            );
            return None;
        };
        if !is_variable(&name.value) {
            let shown = if may_be_shown(&name.value) { name.value.as_str() } else { NOT_SHOWN };
            self.findings.error(
                Some(name.span),
                format_args!("`url_env` is `{shown}`, which is no name of a variable"),
                "name the variable; its value, the URL, is a secret and stays out of the file",
            );
            return None;
        }
        if enabled && self.secrets && self.environment.get(&name.value).is_none() {
            self.not_set("url_env", &name);
        }
        Some(name.value)
    }
}
