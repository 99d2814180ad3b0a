//! Text in columns: `get`'s tables, and the tab-aligned blocks of `describe`.

use std::fmt::Write as _;

/// Blanks between two columns of a table.
const GAP: usize = 3;
/// The least width of a table's column, gap included.
const LEAST: usize = 6;
/// Blanks between two columns of a tab-aligned block.
const TAB_GAP: usize = 2;

/// Lays out rows as `kubectl get` does: left-aligned, three blanks between columns. Widths are
/// remembered, so that a watch's later rows stand below the earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Table {
    widths: Vec<usize>,
}

impl Table {
    /// The rows as lines, each with its newline.
    pub(crate) fn lay_out(&mut self, rows: &[Vec<String>]) -> String {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
        for row in &rows {
            let padded = row.len().saturating_sub(1);
            self.widths.resize(self.widths.len().max(padded), LEAST);
            for (width, cell) in self.widths.iter_mut().zip(&row[..padded]) {
                *width = (*width).max(cell.chars().count() + GAP);
            }
        }
        let mut text = String::new();
        for row in &rows {
            let Some((last, padded)) = row.split_last() else { continue };
            for (cell, width) in padded.iter().zip(&self.widths) {
                // Writing to a String can't fail.
                let _ = write!(text, "{cell:<width$}");
            }
            text.push_str(last);
            text.push('\n');
        }
        text
    }
}

/// Aligns the text after tabs: cells that stand below each other and end with a tab form a column,
/// as in Go's `tabwriter` and so in `kubectl describe`.
pub(crate) fn align_tabs(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut out = String::new();
    // Widths by column, and up to which line each holds.
    let mut columns: Vec<(usize, usize)> = Vec::new();
    for (number, cells) in lines.iter().enumerate() {
        let Some((last, padded)) = cells.split_last() else { continue };
        for (column, cell) in padded.iter().enumerate() {
            if columns.get(column).is_none_or(|(_, end)| *end <= number) {
                columns.truncate(column);
                columns.push(block(&lines, number, column));
            }
            let width = columns.get(column).map_or(0, |(width, _)| *width);
            let _ = write!(out, "{cell:<width$}");
        }
        out.push_str(last);
        let length = out.trim_end_matches(' ').len();
        out.truncate(length);
        out.push('\n');
    }
    out
}

/// The width of the block of tab-ended cells that begins at `first` in `column`, and its end.
fn block(lines: &[Vec<&str>], first: usize, column: usize) -> (usize, usize) {
    let in_block = lines[first..].iter().take_while(|cells| cells.len() > column + 1);
    let (mut width, mut count) = (0, 0);
    for cells in in_block {
        width = width.max(cells[column].chars().count() + TAB_GAP);
        count += 1;
    }
    (width, first + count)
}

/// The text without anything that acts on a terminal; what follows a newline is left out.
pub(crate) fn one_line(text: &str) -> String {
    match text.split_once('\n') {
        Some((first, _)) => format!("{}...", harmless(first)),
        None => harmless(text),
    }
}

/// The text with a stand-in for each character that would act on a terminal, newlines and tabs
/// apart: what a server or a node says must not move the cursor.
pub(crate) fn harmless(text: &str) -> String {
    let acts = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    text.chars().map(|character| if acts(character) { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|&cell| cell.to_owned()).collect()
    }

    #[test]
    fn a_table_is_kubectls() {
        let rows = [row(&["NAME", "DESIRED", "AGE"]), row(&["monitoring-daemon", "3", "2m"])];
        assert_eq!(
            Table::default().lay_out(&rows),
            "NAME                DESIRED   AGE\nmonitoring-daemon   3         2m\n"
        );
        assert_eq!(Table::default().lay_out(&[row(&["A", "B"])]), "A     B\n");
    }

    #[test]
    fn widths_are_remembered() {
        let mut table = Table::default();
        table.lay_out(&[row(&["abcdef", "x"])]);
        assert_eq!(table.lay_out(&[row(&["a", "x"])]), "a        x\n");
    }

    #[test]
    fn what_acts_on_a_terminal_does_not_reach_it() {
        let rows = [row(&["a\u{1b}[2Jb", "one\ntwo"])];
        assert_eq!(Table::default().lay_out(&rows), "a\u{fffd}[2Jb   one...\n");
        assert_eq!(harmless("a\r\n\tb"), "a\u{fffd}\n\tb");
    }

    #[test]
    fn tabs_align_within_their_block() {
        let text =
            "Name:\tx\nNode-Selector:\t<none>\nNo tab here\nA:\tb\n  k:\tlong\tz\n  kk:\tv\ty\n";
        assert_eq!(
            align_tabs(text),
            "Name:           x\nNode-Selector:  <none>\nNo tab here\n\
             A:     b\n  k:   long  z\n  kk:  v     y\n"
        );
    }

    #[test]
    fn an_inner_column_ends_with_its_block() {
        assert_eq!(align_tabs("a\tlonger\tx\nb\ty\nc\ts\tz\n"), "a  longer  x\nb  y\nc  s  z\n");
    }
}
