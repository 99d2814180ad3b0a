//! How much may be under way in one direction of a stream (`streams.proto`).
//!
//! ```text
//!            reader                                   writer
//!     owed ──── grant, half a window at once ───────▶ room
//!      ▲                                               │ spends
//!      └──── handed on ◀─── held ◀─── a piece ─────────┘
//!
//!     owed + held + on the way + room = WINDOW, always
//! ```
//!
//! Numbers only: what is granted and spent is sent by whoever holds these.

/// The most that is granted and not handed on.
pub const WINDOW: u32 = 256 * 1024;

/// The most that one piece has.
pub const MAX_PIECE: usize = 32 * 1024;

/// The least that a piece costs, and a grant is.
pub const SMALLEST: u32 = 256;

/// No more pieces than that are under way.
pub const MAX_PIECES: usize = (WINDOW / SMALLEST) as usize;

/// What may be sent: the writer's account, and that of a relay that watches over a writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room(u32);

/// The reader's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    granted: u32,
    owed: u32,
}

/// The other side did not keep to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// More than the window, or less than is worth a message.
    #[error("a grant of {0} bytes with {1} granted already")]
    Grant(u32, u32),
    /// More than was granted.
    #[error("a piece of {0} bytes with room for {1}")]
    Piece(usize, u32),
}

impl Room {
    /// The reader has granted so much.
    ///
    /// # Errors
    /// When it is more than may be granted.
    pub const fn grant(&mut self, bytes: u32) -> Result<(), Broken> {
        match self.0.checked_add(bytes) {
            Some(room) if room <= WINDOW && bytes >= SMALLEST => {
                self.0 = room;
                Ok(())
            }
            _ => Err(Broken::Grant(bytes, self.0)),
        }
    }

    /// How many bytes the next piece may have; 0: none yet.
    pub fn piece(self) -> usize {
        let room = usize::try_from(self.0).unwrap_or(MAX_PIECE);
        if self.0 < SMALLEST { 0 } else { room.min(MAX_PIECE) }
    }

    /// A piece is sent.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn spend(&mut self, piece: usize) -> Result<(), Broken> {
        self.0 = spent(self.0, piece)?;
        Ok(())
    }
}

impl Default for Window {
    /// With all of it to be granted.
    fn default() -> Self {
        Self { granted: 0, owed: WINDOW }
    }
}

impl Window {
    /// What is to be granted now, if it is worth a message.
    pub const fn grant(&mut self) -> Option<u32> {
        if !self.owes() {
            return None;
        }
        let grant = self.owed;
        self.granted += grant;
        self.owed = 0;
        Some(grant)
    }

    /// Whether something is to be granted.
    pub const fn owes(&self) -> bool {
        self.owed >= WINDOW / 2
    }

    /// A piece has come.
    ///
    /// # Errors
    /// When nobody had granted it.
    pub fn take(&mut self, piece: usize) -> Result<(), Broken> {
        self.granted = spent(self.granted, piece)?;
        Ok(())
    }

    /// A piece that had come was handed on.
    pub fn hand_on(&mut self, piece: usize) {
        self.owed = self.owed.saturating_add(cost(piece)).min(WINDOW - self.granted);
    }
}

fn spent(room: u32, piece: usize) -> Result<u32, Broken> {
    if piece > MAX_PIECE {
        return Err(Broken::Piece(piece, room));
    }
    room.checked_sub(cost(piece)).ok_or(Broken::Piece(piece, room))
}

fn cost(piece: usize) -> u32 {
    u32::try_from(piece).unwrap_or(u32::MAX).max(SMALLEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_that_was_not_granted() {
        let mut room = Room::default();
        assert_eq!(room.piece(), 0);
        assert_eq!(room.spend(1), Err(Broken::Piece(1, 0)));
        room.grant(SMALLEST).unwrap();
        assert_eq!(room.piece(), SMALLEST as usize);
        room.spend(1).unwrap();
        assert_eq!(room.piece(), 0, "a small piece costs as much as it costs to handle it");
        room.grant(WINDOW).unwrap();
        assert_eq!(room.piece(), MAX_PIECE);
        assert!(room.spend(MAX_PIECE + 1).is_err());
    }

    #[test]
    fn no_more_is_granted_than_the_window_and_not_in_crumbs() {
        let mut room = Room::default();
        assert!(room.grant(SMALLEST - 1).is_err());
        assert!(room.grant(WINDOW + 1).is_err());
        room.grant(WINDOW - SMALLEST).unwrap();
        assert!(room.grant(SMALLEST + 1).is_err());
        room.grant(SMALLEST).unwrap();
        assert!(room.grant(u32::MAX).is_err());
    }

    /// Pieces of every size, a reader who lags: all of the window is always somewhere.
    #[test]
    fn a_writer_and_a_reader_never_lose_a_byte_of_the_window() {
        let (mut room, mut window) = (Room::default(), Window::default());
        let mut held = std::collections::VecDeque::new();
        let mut seed = 7_usize;
        let mut sent = 0;
        for _ in 0..100_000 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let drawn = seed >> 33;
            if let Some(grant) = window.grant() {
                room.grant(grant).unwrap();
            }
            let piece = (drawn % (MAX_PIECE + 1)).min(room.piece());
            if !drawn.is_multiple_of(3) && room.piece() > 0 {
                room.spend(piece).unwrap();
                window.take(piece).unwrap();
                held.push_back(piece);
                sent += 1;
            } else if let Some(piece) = held.pop_front() {
                window.hand_on(piece);
            }
            let held: u32 = held.iter().map(|piece| cost(*piece)).sum();
            assert_eq!(room.0 + held + window.owed, WINDOW);
            assert_eq!(room.0, window.granted);
        }
        assert!(sent > 10_000, "{sent}");
        for piece in held.drain(..) {
            window.hand_on(piece);
        }
        assert!(window.grant().is_some() || room.piece() > 0, "it never stands still");
    }

    #[test]
    fn a_writer_that_was_granted_nothing_is_found_out() {
        let mut window = Window::default();
        assert!(window.take(1).is_err());
        assert_eq!(window.grant(), Some(WINDOW));
        assert_eq!(window.grant(), None);
        window.take(MAX_PIECE).unwrap();
        window.hand_on(MAX_PIECE);
        assert_eq!(window.grant(), None, "not worth a message");
    }
}
