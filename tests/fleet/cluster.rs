//! Three nodes of a PostgreSQL cluster on loopback, of which one more than the primary has to
//! confirm; they are killed, frozen and promoted as faults would.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

// The benches have this file elsewhere in their tree.
#[path = "cluster/patroni.rs"]
mod patroni;

use patroni::Patroni;

/// Far above what any step of the cluster takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where PostgreSQL's programs are looked for, beside PATH.
const ROOT: &str = "/usr/lib/postgresql";

/// Who runs the servers where the tests run as root: PostgreSQL refuses root.
const USER: &str = "postgres";

pub(crate) fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_for_within(PATIENCE, what, condition)
}

pub(crate) fn wait_for_within<T>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {patience:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The folder of initdb and its kin.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(ROOT)
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    found.sort();
    let on_path = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file()));
    found.pop().or(on_path).unwrap_or_else(|| {
        panic!("PostgreSQL's programs are not there: install them (Debian: apt-get install postgresql)")
    })
}

pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    bin: PathBuf,
    nodes: Vec<Node>,
    /// Which node is the primary.
    primary: usize,
    /// The first node's own disk.
    mounted: Option<PathBuf>,
    /// What moves the primary by itself; without it the tests do.
    patroni: Option<Patroni>,
}

struct Node {
    port: u16,
    server: Option<Child>,
}

/// A free port below those that the system gives to clients: none of them takes it in between.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 4_000).unwrap();
    let ports = std::iter::repeat_with(|| 16_384 + (start + NEXT.fetch_add(1, Ordering::SeqCst)) % 16_000);
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().unwrap()
}

impl Cluster {
    /// Three nodes, the first the primary; each commit waits for one standby.
    pub(crate) fn start() -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), None).unwrap()
    }

    /// The same, the first on a disk of its own that is small; `None` where this user may make
    /// none.
    pub(crate) fn on_a_small_disk() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        Self::in_dir(dir, Some("size=200m"))
    }

    fn in_dir(dir: tempfile::TempDir, disk: Option<&str>) -> Option<Self> {
        let nodes = (0..3).map(|_| Node { port: free_port(), server: None }).collect();
        let mut cluster = Self { bin: programs(), dir, nodes, primary: 0, mounted: None, patroni: None };
        cluster.let_user_in();
        if let Some(size) = disk {
            let at = PathBuf::from(cluster.data(0));
            fs::create_dir(&at).unwrap();
            let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&at).status();
            if !mounted.is_ok_and(|status| status.success()) {
                return None;
            }
            cluster.own(&at);
            cluster.mounted = Some(at);
        }
        cluster.run(
            "initdb",
            &["-D", &cluster.data(0), "-A", "trust", "-U", "postgres", "--no-instructions", "-k"],
        );
        let own = format!(
            "listen_addresses='127.0.0.1'\nunix_socket_directories='{}'\nwal_level=replica\nmax_wal_senders=10\n\
             max_connections=200\nhot_standby=on\nwal_keep_size=512MB\nwal_log_hints=on\nshared_buffers=64MB\n\
             wal_receiver_timeout=5s\nwal_sender_timeout=5s\nwal_retrieve_retry_interval=200ms\n\
             synchronous_commit=on\nsynchronous_standby_names='ANY 1 (n1,n2,n3)'\n",
            cluster.dir.path().display()
        );
        let file = Path::new(&cluster.data(0)).join("postgresql.conf");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text + &own).unwrap();
        let file = Path::new(&cluster.data(0)).join("pg_hba.conf");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text + "host replication all 127.0.0.1/32 trust\n").unwrap();
        cluster.start_node(0);
        for node in 1..3 {
            cluster.copy_primary(node);
            cluster.start_node(node);
        }
        wait_for("a standby that confirms", || (cluster.sql(STREAMING) == "2").then_some(()));
        Some(cluster)
    }

    /// Three nodes whose primary Patroni moves by itself, in its quorum mode; `None` where it is
    /// not there.
    pub(crate) fn under_patroni() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let nodes: Vec<Node> = (0..3).map(|_| Node { port: free_port(), server: None }).collect();
        let bin = programs();
        let ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
        let patroni = Patroni::found(dir.path(), &bin, &ports)?;
        let mut cluster = Self { bin, dir, nodes, primary: 0, mounted: None, patroni: Some(patroni) };
        cluster.let_user_in();
        for node in 0..3 {
            cluster.own(&Patroni::config(cluster.dir.path(), node));
            cluster.start_server(node);
        }
        wait_for_within(3 * PATIENCE, "a quorum", || {
            cluster.primary = cluster.read_write()?;
            (cluster.sql(STREAMING) == "2").then_some(())
        });
        Some(cluster)
    }

    /// The node that is read-write.
    fn read_write(&self) -> Option<usize> {
        (0..3).find(|node| {
            let answer = self.try_sql(*node, "SELECT pg_is_in_recovery()");
            answer.status.success() && answer.stdout.starts_with(b"f")
        })
    }

    /// Leaves no room on the first node's own disk.
    pub(crate) fn fill_its_disk(&self) {
        let file = self.mounted.as_ref().unwrap().join("ballast");
        let mut ballast = fs::File::create(file).unwrap();
        // Until nothing more goes on it.
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    fn copy_primary(&self, node: usize) {
        let (port, data) = (self.nodes[self.primary].port.to_string(), self.data(node));
        let of = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-D", &data];
        self.run("pg_basebackup", &[&of[..], &["-R", "-X", "stream", "-c", "fast"]].concat());
        self.follow(node, self.primary);
    }

    /// The URL of all nodes, for this user.
    pub(crate) fn url(&self, user: &str) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("postgresql://{user}@{}/postgres", nodes.join(","))
    }

    /// The URL of one node.
    pub(crate) fn url_of(&self, node: usize) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/postgres", self.nodes[node].port)
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.port).collect()
    }

    /// Starts a node again that takes encrypted connections too, with this certificate.
    pub(crate) fn encrypt(&mut self, node: usize, certificate: &X509, key: &PKey<Private>) {
        self.kill(node);
        let data = PathBuf::from(self.data(node));
        let pem = [certificate.to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap()];
        for (name, text) in ["server.crt", "server.key"].iter().zip(pem) {
            let file = data.join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            self.own(&file);
        }
        let config = data.join("postgresql.conf");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text + "\nssl=on\n").unwrap();
        self.start_node(node);
        wait_for("the standbys to stream again", || (self.sql(STREAMING) == "2").then_some(()));
    }

    /// Begins statements that take long, and waits until they hold what they lock.
    pub(crate) fn hold(&self, statements: &str) -> Child {
        let port = self.nodes[self.primary].port.to_string();
        let mut command = Command::new(self.bin.join("psql"));
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-Atqc", statements, "postgres"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        wait_for("the lock", || (self.sql(sleeps) == "1").then_some(()));
        child
    }

    /// Ends what holds a lock.
    pub(crate) fn let_go(&self, mut child: Child) {
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
        child.wait().unwrap();
    }

    pub(crate) fn primary(&self) -> usize {
        self.primary
    }

    /// Runs a statement at the primary; what it answers, a line a row.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let output = self.try_sql(self.primary, statement);
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn try_sql(&self, node: usize, statement: &str) -> Output {
        let port = self.nodes[node].port.to_string();
        let mut command = Command::new(self.bin.join("psql"));
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-Atqc", statement, "postgres"]);
        command.env("PGCONNECT_TIMEOUT", "5").output().unwrap()
    }

    /// kill -9 of a node's server and all that it started.
    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(mut server) = self.nodes[node].server.take() {
            // All of the session: a postmaster's children outlive it for a moment otherwise.
            self.signal(node, &server, "KILL");
            server.wait().unwrap();
        }
    }

    /// Freezes a node (SIGSTOP), or lets it go on.
    pub(crate) fn freeze(&self, node: usize, is_frozen: bool) {
        let server = self.nodes[node].server.as_ref().unwrap();
        self.signal(node, server, if is_frozen { "STOP" } else { "CONT" });
    }

    fn signal(&self, node: usize, server: &Child, signal: &str) {
        // What Patroni starts is no child of its own any more.
        let pid_file = fs::read_to_string(Path::new(&self.data(node)).join("postmaster.pid"));
        let postmaster = pid_file.ok().and_then(|text| text.lines().next()?.trim().parse().ok());
        let first: Vec<u32> = [server.id()].into_iter().chain(postmaster).collect();
        // The servers lead process groups of their own, their children are in groups of theirs.
        let children = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            first.contains(&parent).then_some(pid)
        });
        let all: Vec<String> = children.chain(first.iter().copied()).map(|pid| pid.to_string()).collect();
        // One may have ended meanwhile.
        drop(Command::new("kill").arg(format!("-{signal}")).args(all).stderr(Stdio::null()).status());
    }

    /// Starts a node again as it was.
    pub(crate) fn start_node(&mut self, node: usize) {
        self.start_server(node);
        wait_for_within(self.patience(), "a node that answers", || {
            self.try_sql(node, "SELECT 1").status.success().then_some(())
        });
    }

    fn start_server(&mut self, node: usize) {
        let data = self.data(node);
        let log = fs::File::create(self.dir.path().join(format!("n{}.log", node + 1))).unwrap();
        let port = self.nodes[node].port.to_string();
        let mut command = match &self.patroni {
            Some(patroni) => {
                let config = Patroni::config(self.dir.path(), node);
                self.as_user(&patroni.program, &[config.to_str().unwrap()])
            }
            None => self.as_user(&self.bin.join("postgres"), &["-D", &data, "-p", &port]),
        };
        let pid_file = Path::new(&data).join("postmaster.pid");
        if pid_file.exists() {
            fs::remove_file(&pid_file).unwrap();
        }
        command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
        self.nodes[node].server = Some(command.spawn().unwrap());
    }

    /// Whoever finds out by himself takes longer.
    fn patience(&self) -> Duration {
        if self.patroni.is_some() { 3 * PATIENCE } else { PATIENCE }
    }

    /// Makes a node that was killed a standby of the primary, from a new copy.
    pub(crate) fn rejoin(&mut self, node: usize) {
        if self.patroni.is_some() {
            // It makes it one by itself.
            self.start_node(node);
            wait_for_within(self.patience(), "it to follow", || (self.sql(STREAMING) == "2").then_some(()));
            return;
        }
        fs::remove_dir_all(self.data(node)).unwrap();
        self.copy_primary(node);
        self.start_node(node);
    }

    /// Makes the standby with the most the primary; the other one follows it. Waits for Patroni to
    /// do it, where it is there.
    pub(crate) fn promote(&mut self) {
        if self.patroni.is_some() {
            let was = self.primary;
            self.primary = wait_for_within(self.patience(), "another primary", || {
                self.read_write().filter(|node| *node != was)
            });
            return;
        }
        let left: Vec<usize> = (0..3).filter(|node| *node != self.primary).collect();
        let received = |node: usize| {
            let at = "SELECT coalesce(pg_last_wal_receive_lsn(), '0/0') - '0/0'::pg_lsn";
            let output = self.try_sql(node, at);
            String::from_utf8_lossy(&output.stdout).trim().parse::<f64>().unwrap_or(-1.0)
        };
        let next = *left.iter().max_by(|a, b| received(**a).total_cmp(&received(**b))).unwrap();
        for other in left.into_iter().filter(|node| *node != next) {
            self.follow(other, next);
            if self.nodes[other].server.is_some() {
                drop(self.try_sql(other, "SELECT pg_reload_conf()"));
            }
        }
        let output = self.try_sql(next, "SELECT pg_promote(true, 60)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.primary = next;
    }

    /// Points a node at another as its primary; in force with its next start or reload.
    fn follow(&self, node: usize, primary: usize) {
        let port = self.nodes[primary].port;
        let text = format!(
            "primary_conninfo='host=127.0.0.1 port={port} user=postgres application_name=n{}'\n",
            node + 1
        );
        let file = Path::new(&self.data(node)).join("postgresql.auto.conf");
        fs::write(&file, text).unwrap();
        self.own(&file);
    }

    fn data(&self, node: usize) -> String {
        self.dir.path().join(format!("n{}", node + 1)).display().to_string()
    }

    /// Writes a file that the servers' user owns.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        self.own(&path);
        path
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.as_user(&self.bin.join(program), arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A program as the user who runs the servers.
    pub(crate) fn as_user(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = servers_user() {
            command.uid(uid).gid(gid);
        }
        command.args(arguments).current_dir(self.dir.path()).env("LC_ALL", "C");
        command
    }

    fn let_user_in(&self) {
        self.own(self.dir.path());
    }

    fn own(&self, path: &Path) {
        if let Some((uid, gid)) = servers_user() {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
        }
    }
}

const STREAMING: &str =
    "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'quorum'";

/// The user who runs the servers, where these tests run as root.
fn servers_user() -> Option<(u32, u32)> {
    let own = fs::metadata("/proc/self").unwrap().uid();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    (own == 0).then(|| {
        let line = passwd.lines().find(|line| line.starts_with(&format!("{USER}:")));
        let line = line.unwrap_or_else(|| panic!("there is no user {USER}, and PostgreSQL refuses root"));
        let fields: Vec<&str> = line.split(':').collect();
        (fields[2].parse().unwrap(), fields[3].parse().unwrap())
    })
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|node| {
            if self.nodes[node].server.is_some() {
                self.freeze(node, false);
            }
            self.kill(node);
        });
        if let Some(at) = &self.mounted {
            drop(Command::new("umount").arg("-l").arg(at).status());
        }
    }
}
