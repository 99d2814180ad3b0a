//! What goes to a program, between the wire and the program: no more than was granted.
//!
//! ```text
//!   wire ─▶ [`Inlet`] ── data, ≤ a window ──▶ [`Outlet`] ─▶ program
//!                  ◀──── taken, piece by piece ───
//!                  ── the newest size ─────▶
//! ```
//!
//! What a program does not read stays here; then nothing more is granted, and so on up to whoever
//! writes it.

use everynode_proto::credit::{Broken, MAX_PIECES, Window};
use everynode_proto::v1;
use everynode_runtime::WindowSize;
use tokio::sync::{mpsc, watch};

/// The wire's side.
pub(super) struct Inlet {
    window: Window,
    /// `None` when it has ended.
    data: Option<mpsc::Sender<Vec<u8>>>,
    taken: mpsc::Receiver<usize>,
    size: watch::Sender<WindowSize>,
}

/// The program's side.
pub(super) struct Outlet {
    /// All of it, and its end.
    pub(super) data: mpsc::Receiver<Vec<u8>>,
    /// Where is said how long each piece was that the program has taken.
    pub(super) taken: mpsc::Sender<usize>,
    pub(super) size: watch::Receiver<WindowSize>,
}

/// Both sides.
pub(super) fn stdin(size: WindowSize) -> (Inlet, Outlet) {
    let (say_data, data) = mpsc::channel(MAX_PIECES);
    let (say_taken, taken) = mpsc::channel(MAX_PIECES);
    let (say_size, size) = watch::channel(size);
    let inlet = Inlet { window: Window::default(), data: Some(say_data), taken, size: say_size };
    (inlet, Outlet { data, taken: say_taken, size })
}

/// The size that was said, as far as there are such terminals.
pub(super) fn size_of(said: &v1::TerminalSize) -> WindowSize {
    let side = |length| u16::try_from(length).unwrap_or(u16::MAX);
    WindowSize { columns: side(said.columns), rows: side(said.rows) }
}

impl Inlet {
    /// A piece has come.
    ///
    /// # Errors
    /// When nobody had granted it.
    pub(super) fn take(&mut self, piece: Vec<u8>) -> Result<(), Broken> {
        self.window.take(piece.len())?;
        if let Some(data) = &self.data {
            // There is room for all that may be granted; a program that reads no more gets no more,
            // and grants no more.
            let _ = data.try_send(piece);
        }
        Ok(())
    }

    /// A size has come.
    ///
    /// # Errors
    /// When nobody had granted it.
    pub(super) fn resize(&mut self, size: v1::TerminalSize) -> Result<(), Broken> {
        self.window.take(0)?;
        self.size.send_replace(size_of(&size));
        self.window.hand_on(0);
        Ok(())
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) {
        self.data = None;
    }

    /// Whether a grant is to be sent.
    pub(super) const fn owes(&self) -> bool {
        self.window.owes()
    }

    /// What is to be granted now.
    pub(super) const fn grant(&mut self) -> Option<u32> {
        self.window.grant()
    }

    /// Waits until the program has taken something.
    pub(super) async fn taken(&mut self) {
        match self.taken.recv().await {
            Some(length) => self.window.hand_on(length),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_proto::credit::{MAX_PIECE, WINDOW};

    #[tokio::test]
    async fn no_more_comes_than_a_program_takes() {
        let (mut inlet, mut outlet) = stdin(WindowSize::default());
        assert!(inlet.take(vec![1]).is_err(), "nothing was granted");
        assert_eq!(inlet.grant(), Some(WINDOW));
        for _ in 0..WINDOW as usize / MAX_PIECE {
            inlet.take(vec![0; MAX_PIECE]).unwrap();
        }
        assert!(inlet.take(vec![1]).is_err(), "the window is full");
        assert!(!inlet.owes());
        for _ in 0..WINDOW as usize / MAX_PIECE / 2 {
            let piece = outlet.data.recv().await.unwrap();
            outlet.taken.send(piece.len()).await.unwrap();
            inlet.taken().await;
        }
        assert!(inlet.owes());
        assert_eq!(inlet.grant(), Some(WINDOW / 2));
        inlet.end();
        for _ in 0..WINDOW as usize / MAX_PIECE / 2 {
            assert!(outlet.data.recv().await.is_some());
        }
        assert!(outlet.data.recv().await.is_none());
    }

    #[test]
    fn of_sizes_the_newest_counts_and_none_is_for_nothing() {
        let (mut inlet, outlet) = stdin(WindowSize::default());
        let size = |columns| v1::TerminalSize { columns, rows: 24 };
        assert!(inlet.resize(size(80)).is_err(), "nothing was granted");
        inlet.grant().unwrap();
        for columns in 0..100_000 {
            inlet.resize(size(columns)).unwrap();
            inlet.grant();
        }
        assert_eq!(*outlet.size.borrow(), WindowSize { columns: u16::MAX, rows: 24 });
    }
}
