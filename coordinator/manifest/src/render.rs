//! Findings for people: `file:line:column: what is wrong`, with the line and a caret.

use std::fmt::Write as _;

use crate::{Document, FieldError, Place, Rejected, Warning};

/// The longest line that is shown whole.
const MAX_COLUMNS: usize = 120;

impl Document {
    /// A refusal as lines for people, each error with its place in the file; several stand under
    /// the name of their object.
    pub fn explain(&self, rejected: &Rejected) -> String {
        let mut lines: Vec<String> =
            rejected.errors().iter().map(|error| self.explain_error(error)).collect();
        if lines.len() != 1 {
            // Its first line is kubectl's; of what is only skipped it is the whole.
            let told = rejected.to_string();
            lines.insert(0, told.lines().next().unwrap_or_default().trim_end().to_owned());
        }
        lines.join("\n")
    }

    /// One error with its place in the file.
    pub fn explain_error(&self, error: &FieldError) -> String {
        let Some(place) = self.locate(error.place()) else {
            return format!("{}: {error}", self.file());
        };
        let Place { line, column } = place;
        let told = format!("{}:{line}:{column}: {error}", self.file());
        // A line of a Secret may have a value that is not for whoever reads the log.
        match self.kind.as_str() {
            "Secret" => told,
            _ => format!("{told}\n{}", excerpt(self.text(), place)),
        }
    }

    /// One warning with its place in the file, on one line.
    pub fn explain_warning(&self, warning: &Warning) -> String {
        match self.locate(&warning.path) {
            Some(Place { line, column }) => {
                format!("{}:{line}:{column}: Warning: {warning}", self.file())
            }
            None => format!("{}: Warning: {warning}", self.file()),
        }
    }
}

/// The line of `text` at `place` and a caret below it; empty where there is no such line.
pub(crate) fn excerpt(text: &str, place: Place) -> String {
    let Some(line) = text.lines().nth(place.line - 1) else { return String::new() };
    let before = place.column - 1;
    // Of a long line only the part around the place is shown.
    let start = if before < MAX_COLUMNS { 0 } else { before - MAX_COLUMNS / 2 };
    let shown: String = line.chars().skip(start).take(MAX_COLUMNS).map(visible).collect();
    // Tabs stay tabs, so that the caret stands below its character.
    let indent: String = shown
        .chars()
        .take(before - start)
        .map(|character| if character == '\t' { '\t' } else { ' ' })
        .collect();
    let number = place.line.to_string();
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(out, "  {number} | {shown}");
    let _ = write!(out, "  {:width$} | {indent}^", "", width = number.len());
    out
}

/// The character, or a stand-in for one that would act on the terminal.
fn visible(character: char) -> char {
    if character.is_control() && character != '\t' { '\u{fffd}' } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_its_character() {
        let text = "a\n\tb: ü!\n";
        assert_eq!(excerpt(text, Place { line: 2, column: 6 }), "  2 | \tb: ü!\n    | \t    ^");
        assert_eq!(excerpt(text, Place { line: 9, column: 1 }), "");
        assert_eq!(
            excerpt("a\u{1b}[2J", Place { line: 1, column: 1 }),
            "  1 | a\u{fffd}[2J\n    | ^"
        );
    }

    #[test]
    fn no_line_of_a_secret_is_shown() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {pin: 123456}\n";
        let document = crate::read("s.yaml", text.as_bytes()).unwrap().remove(0);
        let rejected = crate::admit_object(&document.value).unwrap_err();
        let told = document.explain(&rejected);
        assert!(told.starts_with("s.yaml:4:14: stringData[pin]: "), "{told}");
        assert!(!told.contains("123456"), "{told}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = excerpt(&text, Place { line: 1, column: 501 });
        let (line, caret) = shown.split_once('\n').unwrap();
        assert_eq!(line.find('X'), caret.find('^'));
        assert!(line.len() < 140);
    }
}
