//! The last lines that a container printed before it ended: evidence that stays when it is gone.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Digest, Failure, PodStatus};

/// How many lines: what a stack trace and what led to it need, and a screen shows.
const MAX_LINES: usize = 50;

/// How many bytes in all, so that all that a node says of one failed pod is a few KiB.
const MAX_BYTES: usize = 8 * 1024;

/// How much of one line: a longer one would push out those before it, which say more than its end.
const MAX_LINE: usize = 1024;

/// At most 50 lines, the newest, in at most 8 KiB; without control characters, so that it can be
/// shown on a terminal. Whoever keeps it may drop the text and still know which it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTail {
    id: u64,
    text: Arc<str>,
}

/// Gathers the last lines of something that goes on printing, in bounded memory.
#[derive(Clone, Debug, Default)]
pub struct Gatherer {
    lines: VecDeque<String>,
    bytes: usize,
}

impl LogTail {
    /// The end of this text.
    pub fn of(text: &str) -> Self {
        let mut gatherer = Gatherer::default();
        text.lines().for_each(|line| gatherer.push(line));
        gatherer.tail()
    }

    /// A tail of which only the [id](Self::id) is known.
    pub fn known_elsewhere(id: u64) -> Self {
        Self { id, text: Arc::default() }
    }

    /// Tells this text from others; 0 where nothing was printed.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The lines, each with its end but the last; empty where nothing was printed, or where it
    /// [is missing](Self::is_missing).
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The last line in which anything stands.
    pub fn last_line(&self) -> Option<&str> {
        self.text.lines().rev().find(|line| !line.trim().is_empty())
    }

    /// Whether something was printed and it is not here.
    pub fn is_missing(&self) -> bool {
        self.id != 0 && self.text.is_empty()
    }

    /// Drops the text.
    pub fn forget(&mut self) {
        self.text = Arc::default();
    }
}

impl Gatherer {
    /// Takes in the next line.
    pub fn push(&mut self, line: &str) {
        let cut = &line[..line.floor_char_boundary(MAX_LINE)];
        let mut clean: String = cut.chars().map(shown).collect();
        // What replaces a character may be longer than it was.
        clean.truncate(clean.floor_char_boundary(MAX_LINE));
        if cut.len() < line.len() {
            clean.truncate(clean.floor_char_boundary(MAX_LINE - '…'.len_utf8()));
            clean.push('…');
        }
        self.bytes += clean.len() + 1;
        self.lines.push_back(clean);
        while self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let first = self.lines.pop_front();
            self.bytes -= first.map_or(0, |first| first.len() + 1);
        }
    }

    /// What there is now.
    pub fn tail(&self) -> LogTail {
        let text = self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        if text.is_empty() {
            return LogTail::default();
        }
        // Never the id of what was not printed.
        let id = Digest::of(text.as_bytes()).leading_u64().max(1);
        LogTail { id, text: text.into() }
    }
}

/// A terminal obeys control characters, so they don't reach one.
fn shown(char: char) -> char {
    if char.is_control() && char != '\t' { '\u{fffd}' } else { char }
}

/// Puts the texts that `pods` do not say again where `former` knows them.
pub fn carry_log_tails(former: &[PodStatus], pods: &mut [PodStatus]) {
    for failure in pods.iter_mut().flat_map(PodStatus::failures_mut) {
        let known = |known: &&Failure| known.log_tail.id() == failure.log_tail.id();
        if failure.log_tail.is_missing()
            && let Some(known) = former.iter().flat_map(PodStatus::failures).find(known)
        {
            failure.log_tail = known.log_tail.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_within_bounds() {
        let many: String = (0..200).map(|number| format!("line {number}\n")).collect();
        let tail = LogTail::of(&many);
        assert_eq!(tail.as_str().lines().count(), MAX_LINES);
        assert_eq!(
            (tail.as_str().lines().next(), tail.last_line()),
            (Some("line 150"), Some("line 199"))
        );
        let long = format!("{}\nshort\n\n", "€".repeat(100_000)).repeat(20);
        let tail = LogTail::of(&long);
        assert!(tail.as_str().len() < MAX_BYTES && tail.as_str().len() > MAX_BYTES / 2);
        assert!(tail.as_str().lines().all(|line| line.len() <= MAX_LINE));
        assert_eq!(tail.last_line(), Some("short"));
    }

    #[test]
    fn nothing_in_it_commands_a_terminal() {
        let tail = LogTail::of("\u{1b}]0;title\u{7}\tok\r\n\u{9b}2J");
        assert_eq!(tail.as_str(), "\u{fffd}]0;title\u{fffd}\tok\n\u{fffd}2J");
        let hostile = LogTail::of(&"\u{1}".repeat(MAX_BYTES * 2));
        assert!(hostile.as_str().len() <= MAX_LINE);
    }

    #[test]
    fn it_is_known_by_its_id_when_its_text_is_dropped() {
        let mut tail = LogTail::of("boom");
        let id = tail.id();
        assert_eq!(LogTail::of(tail.as_str()), tail);
        tail.forget();
        assert!(tail.is_missing() && tail == LogTail::known_elsewhere(id));
        let nothing = LogTail::of("\n\n");
        assert!(!LogTail::of("").is_missing() && !nothing.is_missing());
    }
}
