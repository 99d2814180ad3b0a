//! What is to be said to a program next, as far as there is credit: no waiting, no sending.

use everynode_proto::credit::{Broken, Room, Window};
use everynode_proto::v1::exec_input::Message;
use everynode_proto::v1::{StdinEnd, TerminalSize};

use crate::error::Error;

/// This end's accounts and what waits.
pub(super) struct Talk {
    /// What the other side may send.
    window: Window,
    /// What may be sent there.
    room: Room,
    input: Input,
    /// The newest that was not told.
    size: Option<TerminalSize>,
}

/// What goes to the program.
enum Input {
    Open,
    /// Some that has come, and was not sent.
    Data(Vec<u8>),
    Ended,
    Over,
}

impl Talk {
    /// With an input, or without.
    pub(super) fn new(stdin: bool) -> Self {
        let input = if stdin { Input::Open } else { Input::Over };
        Self { window: Window::default(), room: Room::default(), input, size: None }
    }

    /// What is to be sent now.
    pub(super) fn next(&mut self) -> Option<Message> {
        if let Some(bytes) = self.window.grant() {
            return Some(Message::Credit(bytes));
        }
        let most = self.room.piece();
        if most > 0
            && let Some(size) = self.size.take()
        {
            // There is room for it.
            self.room.spend(0).ok()?;
            return Some(Message::Resize(size));
        }
        match std::mem::replace(&mut self.input, Input::Open) {
            Input::Data(mut data) if most > 0 => {
                let rest = data.split_off(most.min(data.len()));
                if !rest.is_empty() {
                    self.input = Input::Data(rest);
                }
                self.room.spend(data.len()).ok()?;
                Some(Message::Stdin(data))
            }
            Input::Ended => {
                self.input = Input::Over;
                Some(Message::StdinEnd(StdinEnd {}))
            }
            waits => {
                self.input = waits;
                None
            }
        }
    }

    /// Whether more of the input can be taken.
    pub(super) const fn wants_data(&self) -> bool {
        matches!(self.input, Input::Open)
    }

    /// Some of the input has come, or its end.
    pub(super) fn typed(&mut self, data: Option<Vec<u8>>) {
        self.input = data.map_or(Input::Ended, Input::Data);
    }

    /// The terminal has another size.
    pub(super) fn resized(&mut self, size: Option<TerminalSize>) {
        self.size = size.or(self.size);
    }

    /// The other side has room for so much more.
    pub(super) fn granted(&mut self, bytes: u32) -> Result<(), Error> {
        self.room.grant(bytes).map_err(unruly)
    }

    /// So much has come to be printed.
    pub(super) fn heard(&mut self, length: usize) -> Result<(), Error> {
        self.window.take(length).map_err(unruly)
    }

    /// So much has been printed.
    pub(super) fn printed(&mut self, length: usize) {
        self.window.hand_on(length);
    }
}

fn unruly(broken: Broken) -> Error {
    Error::Failed(format!("the coordinator does not keep to the rules of credit: {broken}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_proto::credit::{MAX_PIECE, SMALLEST, WINDOW};

    #[test]
    fn nothing_is_sent_for_which_there_is_no_room() {
        let mut talk = Talk::new(true);
        assert_eq!(talk.next(), Some(Message::Credit(WINDOW)));
        assert!(talk.wants_data());
        talk.typed(Some(vec![7; 1000]));
        let size = |columns| TerminalSize { columns, rows: 24 };
        talk.resized(Some(size(80)));
        talk.resized(Some(size(81)));
        assert!(!talk.wants_data());
        assert_eq!(talk.next(), None);
        talk.granted(SMALLEST).unwrap();
        assert_eq!(talk.next(), Some(Message::Resize(size(81))), "the newest, and once");
        assert_eq!(talk.next(), None);
        talk.granted(SMALLEST).unwrap();
        assert_eq!(talk.next(), Some(Message::Stdin(vec![7; 256])));
        assert_eq!(talk.next(), None);
        talk.granted(WINDOW).unwrap();
        assert_eq!(talk.next(), Some(Message::Stdin(vec![7; 744])));
        assert!(talk.wants_data());
        talk.typed(None);
        assert_eq!(talk.next(), Some(Message::StdinEnd(StdinEnd {})));
        assert_eq!(talk.next(), None);
        assert!(!talk.wants_data());
    }

    #[test]
    fn what_is_printed_is_granted_again() {
        let mut talk = Talk::new(false);
        assert!(talk.heard(1).is_err(), "nothing was granted");
        assert_eq!(talk.next(), Some(Message::Credit(WINDOW)));
        for _ in 0..WINDOW as usize / MAX_PIECE {
            talk.heard(MAX_PIECE).unwrap();
            assert_eq!(talk.next(), None);
        }
        assert!(talk.heard(1).is_err());
        for _ in 0..WINDOW as usize / MAX_PIECE / 2 {
            talk.printed(MAX_PIECE);
        }
        assert_eq!(talk.next(), Some(Message::Credit(WINDOW / 2)));
        assert!(!talk.wants_data(), "without -i");
    }
}
