//! The demo on the screen: drawn in place on a terminal, plain lines elsewhere.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use tokio::time::Instant;

use crate::error::Error;
use crate::out::Out;
use crate::table::Table;

/// The most nodes that are shown: a screen has to hold it all.
const MOST_ROWS: usize = 12;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const FAINT: Style = Style::new().dimmed();

/// What is shown of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    /// Its agent, in a word or two.
    pub(super) agent: String,
    /// The process ids of its instances.
    pub(super) instances: Vec<i32>,
    /// Whether it was deregistered, so that nothing is right.
    pub(super) removed: bool,
}

/// What is on the screen.
pub(super) struct View {
    terminal: bool,
    title: Vec<String>,
    /// Scenes that are over, as lines.
    past: Vec<String>,
    scene: Option<(String, Instant)>,
    /// How many lines were drawn last, to be drawn over.
    drawn: usize,
    last: String,
}

impl View {
    pub(super) fn new(terminal: bool) -> Self {
        Self {
            terminal,
            title: Vec::new(),
            past: Vec::new(),
            scene: None,
            drawn: 0,
            last: String::new(),
        }
    }

    pub(super) fn title(&mut self, lines: Vec<String>, out: &mut Out) -> Result<(), Error> {
        if !self.terminal {
            lines.iter().try_for_each(|line| out.line(line))?;
        }
        self.title = lines;
        Ok(())
    }

    pub(super) fn begin(&mut self, title: String, out: &mut Out) -> Result<(), Error> {
        if !self.terminal {
            out.line(format!(".. {title}"))?;
        }
        self.scene = Some((title, Instant::now()));
        Ok(())
    }

    pub(super) fn end(
        &mut self,
        failure: Option<String>,
        rows: Vec<Row>,
        out: &mut Out,
    ) -> Result<(), Error> {
        let Some((title, begun)) = self.scene.take() else { return Ok(()) };
        let line = match failure {
            None => format!("{GOOD}ok{GOOD:#} {title} ({:.1} s)", begun.elapsed().as_secs_f32()),
            Some(why) => format!("{BAD}!!{BAD:#} {title}: {why}"),
        };
        if self.terminal {
            self.past.push(line);
            return self.show(rows, out);
        }
        out.line(line)?;
        out.line(format!("   {}", in_words(&rows)))
    }

    /// Draws over what was drawn, if anything has changed.
    pub(super) fn show(&mut self, rows: Vec<Row>, out: &mut Out) -> Result<(), Error> {
        if !self.terminal {
            return Ok(());
        }
        let body = self.body(&rows);
        if body == self.last {
            return Ok(());
        }
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        // Lines longer than the screen are cut by it: wrapped ones would be more than were counted.
        let _ = write!(text, "\r\x1b[J\x1b[?7l{body}\x1b[?7h");
        self.drawn = body.matches('\n').count();
        self.last = body;
        out.text(&text)
    }

    /// Draws for the last time; what comes next stands below.
    pub(super) fn close(&mut self, rows: Vec<Row>, out: &mut Out) -> Result<(), Error> {
        if self.title.is_empty() {
            return Ok(());
        }
        self.scene = None;
        self.show(rows, out)
    }

    fn body(&self, rows: &[Row]) -> String {
        let mut text = String::new();
        for line in &self.title {
            let _ = writeln!(text, "{FAINT}{line}{FAINT:#}");
        }
        text.push('\n');
        text.push_str(&table(rows));
        text.push('\n');
        for line in &self.past {
            let _ = writeln!(text, "{line}");
        }
        if let Some((title, begun)) = &self.scene {
            let _ = writeln!(text, ".. {title} ({} s)", begun.elapsed().as_secs());
        }
        text
    }
}

/// The nodes as a table, coloured by whether they are as they should be.
fn table(rows: &[Row]) -> String {
    let mut cells = vec![["NODE", "AGENT", "INSTANCES", "PID"].map(str::to_owned).to_vec()];
    cells.extend(rows.iter().take(MOST_ROWS).map(|row| {
        let pids: Vec<String> = row.instances.iter().map(i32::to_string).collect();
        vec![
            row.name.clone(),
            row.agent.clone(),
            row.instances.len().to_string(),
            if pids.is_empty() { "-".into() } else { pids.join(", ") },
        ]
    }));
    let plain = Table::default().lay_out(&cells);
    let mut text = String::new();
    for (line, row) in plain.lines().zip(std::iter::once(None).chain(rows.iter().map(Some))) {
        let style = match row {
            None => Style::new(),
            Some(row) if row.instances.len() == usize::from(!row.removed) => GOOD,
            Some(row) if row.instances.len() > 1 => BAD,
            Some(_) => FAINT,
        };
        let _ = writeln!(text, "{style}{line}{style:#}");
    }
    if rows.len() > MOST_ROWS {
        let _ = writeln!(text, "… and {} more", rows.len() - MOST_ROWS);
    }
    text
}

/// The nodes in one line.
fn in_words(rows: &[Row]) -> String {
    let one = |row: &Row| match row.instances.as_slice() {
        [] => format!("{}: nothing", row.name),
        [pid] => format!("{}: pid {pid}", row.name),
        several => format!("{}: pids {several:?}", row.name),
    };
    rows.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::testing::captured;

    fn rows() -> Vec<Row> {
        let row = |name: &str, instances: &[i32], removed| Row {
            name: name.into(),
            agent: "pid 5".into(),
            instances: instances.to_vec(),
            removed,
        };
        vec![row("node-1", &[7], false), row("node-2", &[], true)]
    }

    #[test]
    fn elsewhere_than_on_a_terminal_there_are_plain_lines() {
        let (mut out, text, _) = captured();
        let mut view = View::new(false);
        view.begin("a node joins".into(), &mut out).unwrap();
        view.show(rows(), &mut out).unwrap();
        view.end(Some("it did not".into()), rows(), &mut out).unwrap();
        let shown = anstream::adapter::strip_str(&text.text()).to_string();
        assert_eq!(
            shown,
            ".. a node joins\n!! a node joins: it did not\n   node-1: pid 7, node-2: nothing\n"
        );
    }

    #[test]
    fn a_terminal_is_drawn_over_and_only_when_something_changed() {
        let (mut out, text, _) = captured();
        let mut view = View::new(true);
        view.title(vec!["demo".into()], &mut out).unwrap();
        view.show(rows(), &mut out).unwrap();
        let first = text.text();
        assert!(!first.contains("\x1b[6A") && first.contains("node-1"));
        view.show(rows(), &mut out).unwrap();
        assert_eq!(text.text(), first);
        view.show(rows()[..1].to_vec(), &mut out).unwrap();
        assert!(text.text()[first.len()..].starts_with("\x1b[6A\r\x1b[J"), "{:?}", text.text());
    }
}
