//! What the subscriptions of a run share: TLS settings, permits for requests, connections that are
//! kept alive.

use std::sync::Arc;

use crate::actors::{Permits, Settings};
use crate::config::{Config, FleetRole};
use crate::delivery::SubscriptionId;
use crate::files::share_of_open_files;
use crate::http::{Connections, TlsSettings};
use crate::runtime::{Current, StartError};

/// What all subscriptions share; kept across reloads where the config allows.
pub(super) struct Equipment {
    tls: TlsSettings,
    permits: Arc<Permits>,
    connections: Connections,
    max_concurrency: usize,
}

impl Equipment {
    pub(super) fn new(config: &Config) -> Self {
        let max_concurrency = config.max_concurrency;
        Self {
            tls: TlsSettings::default(),
            permits: permits(max_concurrency),
            connections: Connections::new(share_of_open_files(8)),
            max_concurrency,
        }
    }

    /// Adapts to another config; requests under way keep what they have.
    pub(super) fn refit(&mut self, config: &Config) {
        if config.max_concurrency != self.max_concurrency {
            self.max_concurrency = config.max_concurrency;
            self.permits = permits(config.max_concurrency);
        }
    }

    /// Each config entry's id, with all that its Subscription needs where it is active.
    pub(super) fn entries(
        &mut self,
        config: &Config,
        current: &Current,
    ) -> Result<Vec<(SubscriptionId, Option<Settings>)>, StartError> {
        let environment = current.environment.with_file(config.env_file.as_deref());
        // Who hands events over sends nothing.
        let delivers = config.fleet.as_ref().is_none_or(|fleet| fleet.role == FleetRole::Deliver);
        let mut entries = Vec::new();
        for entry in &config.subscriptions {
            let settings = match (entry.active && delivers, &entry.endpoint) {
                (false, _) => None,
                (true, None) => return Err(StartError::NoEndpoint(entry.id.clone())),
                (true, Some(endpoint)) => Some(Settings {
                    config: Arc::new(entry.clone()),
                    endpoint: endpoint.clone(),
                    environment: environment.clone(),
                    // Built only where it is needed: reading the system's roots takes time and
                    // memory.
                    tls: endpoint.is_tls().then(|| self.tls.of(&entry.tls_files)).transpose()?,
                    permits: self.permits.clone(),
                    connections: self.connections.clone(),
                    max_pending: config.max_pending,
                }),
            };
            entries.push((entry.id.clone(), settings));
        }
        Ok(entries)
    }
}

/// Permits for `max_concurrency` requests, or for fewer if the limit of open files allows fewer
/// connections.
fn permits(max_concurrency: usize) -> Arc<Permits> {
    let most = share_of_open_files(4);
    if most < max_concurrency {
        log::warn!(
            "at most {most} requests at a time instead of max_concurrency ({max_concurrency}): \
             more would need a higher limit of open files (ulimit -n)"
        );
    }
    Arc::new(Permits::new(max_concurrency.min(most)))
}
