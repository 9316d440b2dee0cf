//! A host with a terminal interface: `cargo run --example ratatui_host`, in a repo with a config
//! (see `docs/reference/config.md`). Its draw loop looks at the runtime at every frame and never
//! waits for it. `e` emits an event, `q` ends.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event as Input, KeyCode};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Stylize as _;
use ratatui::text::Line;
use ratatui::widgets::{Block, List, Paragraph};
use spec_notify::{Ended, Environment, Event, Handle, LoadOptions, Runtime, Stage, Status, Updates};

/// The longest time between two frames.
const FRAME: Duration = Duration::from_millis(50);

/// Rows that are kept.
const ROWS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let environment = Environment::process();
    let config = LoadOptions::in_dir(std::env::current_dir()?).load(&environment).into_config()?;
    let runtime = Runtime::start_blocking(config, environment)?;
    let mut terminal = ratatui::try_init()?;
    let mut screen = Webhooks::of(&runtime.handle());
    let ran = loop {
        screen.look();
        let drawn = terminal.draw(|frame| screen.draw(frame));
        match drawn.map_err(Box::from).and_then(|_| next(&runtime.handle())) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    ratatui::try_restore()?;
    runtime.drain_blocking(Duration::from_secs(2));
    ran
}

/// Does what a key says; `false` ends.
fn next(handle: &Handle) -> Result<bool, Box<dyn Error>> {
    if !event::poll(FRAME)? {
        return Ok(true);
    }
    match event::read()? {
        Input::Key(key) if key.code == KeyCode::Char('q') => return Ok(false),
        Input::Key(key) if key.code == KeyCode::Char('e') => {
            // Each press is a run of its own: the same stage of the same session is a duplicate.
            let session = format!("session-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis());
            let event = Event::stage("SPEC-KIT-065".parse()?, Stage::Plan, Status::Success);
            handle.emit_blocking(event.session(session).build(), Duration::from_secs(2))?;
        }
        _ => {}
    }
    Ok(true)
}

/// What the screen shows of webhooks: a banner and a list.
struct Webhooks {
    updates: Updates,
    banner: String,
    ended: VecDeque<Arc<Ended>>,
    missed: u64,
}

impl Webhooks {
    fn of(handle: &Handle) -> Self {
        Self { updates: handle.watch(), banner: String::new(), ended: VecDeque::new(), missed: 0 }
    }

    /// Takes what is new. Waits for nothing.
    fn look(&mut self) {
        let snapshot = self.updates.snapshot();
        self.banner = snapshot.headline().unwrap_or_else(|| format!("webhooks: {}", snapshot.state));
        let ends = self.updates.ended();
        self.missed += ends.missed;
        ends.deliveries.into_iter().for_each(|ended| self.ended.push_front(ended));
        self.ended.truncate(ROWS);
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [top, rest] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(frame.area());
        frame.render_widget(Paragraph::new(self.banner.as_str().reversed()), top);
        let rows = self.ended.iter().map(|ended| {
            let row = &ended.delivery;
            let stage = row.stage.map_or(row.event.as_str(), Stage::as_str);
            let status = row.status.map_or("", Status::as_str);
            Line::from(format!("{} {stage} {status} > {}: {}", row.spec, row.subscription, row.state))
        });
        let title = match self.missed {
            0 => " deliveries ".to_owned(),
            missed => format!(" deliveries, {missed} more "),
        };
        frame.render_widget(List::new(rows).block(Block::bordered().title(title)), rest);
    }
}
