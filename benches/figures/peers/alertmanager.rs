//! Alertmanager as a process, with a config that has it send each alert at once, and a client of
//! its API.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Sender;
use crate::accept::WITHIN;
use crate::machine::wait_for;
use crate::repo::{Serve, message};

const PROGRAM: &str = "prometheus-alertmanager";

/// See the module's first line.
pub(super) struct Alertmanager {
    folder: tempfile::TempDir,
    port: u16,
    posts: Vec<String>,
    /// Alerts of one post.
    batch: usize,
}

/// An error says how to get it.
pub(crate) fn installed() -> Result<(), String> {
    version().map(drop).map_err(|error| {
        format!(
            "--peers measures beside {PROGRAM}, which cannot be run: {error}. \
             Debian: apt-get install {PROGRAM}"
        )
    })
}

/// The first line of what it says of itself.
fn version() -> io::Result<String> {
    let output = Command::new(PROGRAM).arg("--version").output()?;
    // Where it says so has changed between its versions.
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}

pub(super) fn description() -> String {
    let version = version().expect("it was there at the start");
    format!("{version}; both with their defaults, each alert in a group of its own, without a wait")
}

impl Alertmanager {
    /// With `count` alerts to be handed over.
    pub(super) fn new(endpoints: &[String], count: usize, batch: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("config.yml"), config(endpoints)).expect("a config");
        let alerts: Vec<Value> = (0..count).map(alert).collect();
        let posts = alerts.chunks(batch).map(|batch| json!(batch).to_string()).collect();
        Self { folder, port: free_port(), posts, batch }
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WITHIN))?;
        Ok(BufReader::new(stream))
    }
}

impl Sender for Alertmanager {
    fn start(&self) -> Serve {
        let started = Instant::now();
        let folder = self.folder.path();
        let mut command = Command::new(PROGRAM);
        command.arg(format!("--config.file={}", folder.join("config.yml").display()));
        command.arg(format!("--storage.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{}", self.port));
        command.arg("--cluster.listen-address=").current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut serve = Serve { child: command.spawn().expect("it starts"), ready_in: Duration::ZERO };
        wait_for("Alertmanager to be ready", Duration::from_millis(5), || {
            let mut stream = self.connect().ok()?;
            (ask(&mut stream, "GET", "/-/ready", "").ok()? == 200).then_some(())
        });
        serve.ready_in = started.elapsed();
        serve
    }

    fn hand_over(&self, mut wait: impl FnMut(usize)) {
        let mut stream = self.connect().expect("a connection");
        for (n, post) in self.posts.iter().enumerate() {
            wait(n * self.batch);
            let status = ask(&mut stream, "POST", "/api/v2/alerts", post).expect("an answer");
            assert_eq!(status, 200, "alerts are accepted");
        }
    }
}

/// Each alert is a group of its own and sent as soon as it is there. A group is looked at again
/// after `group_interval`: its default is longer than a round, so that this takes nothing from
/// what is measured.
fn config(endpoints: &[String]) -> String {
    let hooks = endpoints.iter().map(|url| format!("      - url: {url}\n        send_resolved: false\n"));
    format!(
        "route:\n  receiver: hooks\n  group_by: ['...']\n  group_wait: 0s\n\
         receivers:\n  - name: hooks\n    webhook_configs:\n{}",
        hooks.collect::<String>()
    )
}

/// As large as an event of spec-notify.
fn alert(n: usize) -> Value {
    let alert = |message: &str| {
        json!({
            "labels": {"alertname": "bench", "n": n.to_string()},
            "annotations": {"message": message},
        })
    };
    alert(&message(alert("").to_string().len()))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// One request over a connection that is kept; the status of its answer.
fn ask(stream: &mut BufReader<TcpStream>, method: &str, path: &str, body: &str) -> io::Result<u16> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.get_mut().write_all((head + body).as_bytes())?;
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_ascii_lowercase()),
        }
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(Ok(0), |length| length.trim().parse()).map_err(io::Error::other)?;
    io::copy(&mut stream.take(length), &mut io::sink())?;
    let status = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    status.parse().map_err(io::Error::other)
}
