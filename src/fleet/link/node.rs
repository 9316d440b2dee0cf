//! The nodes that a cluster's URL names, each with the settings of the connections to it.

use std::net::IpAddr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::{CONNECT_WITHIN, DEAD_AFTER};
use crate::fleet::lease::MemberId;

/// A config for each node of a URL.
pub(super) fn each_node(url: &Config, member: &MemberId) -> Vec<(String, Config)> {
    let (hosts, ports, addresses) = (url.get_hosts(), url.get_ports(), url.get_hostaddrs());
    let port_of = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let node = |(at, host): (usize, &Host)| {
        let mut config = Config::new();
        let name = match host {
            Host::Tcp(name) => {
                config.host(name);
                name.clone()
            }
            Host::Unix(path) => {
                config.host_path(path);
                path.display().to_string()
            }
        };
        config.port(port_of(at));
        if let Some(address) = addresses.get(at) {
            config.hostaddr(*address);
        }
        if let Some(user) = url.get_user() {
            config.user(user);
        }
        if let Some(password) = url.get_password() {
            config.password(password);
        }
        if let Some(database) = url.get_dbname() {
            config.dbname(database);
        }
        config.application_name(format!("spec-notify {member}"));
        config.connect_timeout(CONNECT_WITHIN);
        config.tcp_user_timeout(DEAD_AFTER);
        // What leaves this machine is encrypted and the node's certificate verified.
        config.ssl_mode(if is_local(&config) { SslMode::Disable } else { SslMode::Require });
        (format!("{name}:{}", port_of(at)), config)
    };
    hosts.iter().enumerate().map(node).collect()
}

/// Whether a node is on this machine.
pub(super) fn is_local(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_the_urls_settings_and_leaves_the_machine_encrypted_only() {
        let url: Config = "postgresql://u:p@db-1.example:5433,127.0.0.1:5434/fleet".parse().unwrap();
        let nodes = each_node(&url, &MemberId::new("m"));
        let [(far, of_far), (near, of_near)] = &nodes[..] else { panic!("{nodes:?}") };
        assert_eq!((far.as_str(), near.as_str()), ("db-1.example:5433", "127.0.0.1:5434"));
        assert_eq!((of_far.get_ssl_mode(), of_near.get_ssl_mode()), (SslMode::Require, SslMode::Disable));
        assert!(!is_local(of_far) && is_local(of_near));
        assert_eq!((of_far.get_user(), of_near.get_dbname()), (Some("u"), Some("fleet")));
        assert_eq!(of_near.get_password(), Some(&b"p"[..]));
    }
}
