//! Patroni in its quorum mode, with the consensus that it brings itself: no other service is
//! needed.

use std::fs;
use std::path::{Path, PathBuf};

use super::free_port;

/// The program; `PATRONI` names one that is not on PATH.
pub(super) struct Patroni {
    pub(super) program: PathBuf,
}

impl Patroni {
    /// Writes a config for each node; `None` where there is no program.
    pub(super) fn found(dir: &Path, bin: &Path, ports: &[u16]) -> Option<Self> {
        let named = std::env::var_os("PATRONI").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|folder| folder.join("patroni"));
        let program = named.into_iter().chain(on_path).find(|program| program.is_file())?;
        let peers: Vec<String> = ports.iter().map(|_| format!("127.0.0.1:{}", free_port())).collect();
        for (node, port) in ports.iter().enumerate() {
            let partners: Vec<&str> = peers
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != node)
                .map(|(_, peer)| peer.as_str())
                .collect();
            let text = config(dir, bin, node, *port, &peers[node], &partners);
            fs::write(Self::config(dir, node), text).unwrap();
        }
        Some(Self { program })
    }

    /// The config of a node.
    pub(super) fn config(dir: &Path, node: usize) -> PathBuf {
        dir.join(format!("n{}.yml", node + 1))
    }
}

/// A machine that is gone is given up after 20 s: the least that Patroni takes.
fn config(dir: &Path, bin: &Path, node: usize, port: u16, own: &str, partners: &[&str]) -> String {
    let (name, dir, bin, rest) = (node + 1, dir.display(), bin.display(), free_port());
    let partners: String = partners.iter().map(|partner| format!("  - {partner}\n")).collect();
    format!(
        "scope: spec-notify
name: n{name}
restapi:
  listen: 127.0.0.1:{rest}
  connect_address: 127.0.0.1:{rest}
raft:
  data_dir: {dir}/raft{name}
  self_addr: {own}
  partner_addrs:
{partners}bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    synchronous_mode: quorum
    synchronous_mode_strict: true
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters:
        max_connections: 200
        wal_log_hints: 'on'
        wal_keep_size: 512MB
        shared_buffers: 64MB
        wal_receiver_timeout: 5s
        wal_sender_timeout: 5s
        synchronous_commit: 'on'
  initdb:
  - encoding: UTF8
  - data-checksums
  pg_hba:
  - local all all trust
  - host all all 127.0.0.1/32 trust
  - host replication all 127.0.0.1/32 trust
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {dir}/n{name}
  bin_dir: {bin}
  pgpass: {dir}/pgpass{name}
  authentication:
    superuser:
      username: postgres
    replication:
      username: postgres
    rewind:
      username: postgres
  parameters:
    unix_socket_directories: {dir}
"
    )
}
