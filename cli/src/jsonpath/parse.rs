//! Templates from text; `parser.go` of client-go, with `range` and `end` put into each other.

use serde_json::json;

use super::{Part, Slice, Step};

/// How deep expressions within expressions and ranges within ranges may be: nobody writes more
/// than three.
const MAX_DEPTH: usize = 32;

type Parsed<T> = Result<T, String>;

/// What stands in braces.
enum Action {
    Steps(Vec<Step>),
    Range(Vec<Step>),
    End,
}

/// Reads a whole template.
pub(super) fn template(text: &str) -> Parsed<Vec<Part>> {
    // The innermost last: what a range goes over, and what is in it so far.
    let mut open: Vec<(Vec<Step>, Vec<Part>)> = Vec::new();
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let brace = rest.find('{').unwrap_or(rest.len());
        let (plain, after) = rest.split_at(brace);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.to_owned()));
        }
        let Some(inside) = after.strip_prefix('{') else { break };
        let mut scanner = Scanner { rest: inside };
        match action(&mut scanner, 0)? {
            Action::Steps(steps) => parts.push(Part::Expression(steps)),
            Action::Range(over) => {
                if open.len() == MAX_DEPTH {
                    return Err("ranges too deep in one another".into());
                }
                open.push((over, std::mem::take(&mut parts)));
            }
            Action::End => {
                let (over, outer) = open.pop().ok_or("not in range, nothing to end")?;
                let body = std::mem::replace(&mut parts, outer);
                parts.push(Part::Range(over, body));
            }
        }
        rest = scanner.rest;
    }
    // One that is not ended goes to the end.
    while let Some((over, outer)) = open.pop() {
        let body = std::mem::replace(&mut parts, outer);
        parts.push(Part::Range(over, body));
    }
    Ok(parts)
}

/// The steps of a text that has no braces around it.
fn steps(text: &str, depth: usize) -> Parsed<Vec<Step>> {
    if depth > MAX_DEPTH {
        return Err("expressions too deep in one another".into());
    }
    let closed = format!("{text}}}");
    match action(&mut Scanner { rest: &closed }, depth)? {
        Action::Steps(steps) => Ok(steps),
        Action::Range(_) | Action::End => Err("range and end can't be within an expression".into()),
    }
}

/// What is left of the text.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Up to what ends a name, as it is written.
    fn word(&mut self) -> &'a str {
        let mut escaped = false;
        let end = self.rest.char_indices().find(|(_, character)| {
            let ends = !escaped && terminates(*character);
            escaped = !escaped && *character == '\\';
            ends
        });
        self.take(end.map_or(self.rest.len(), |(at, _)| at))
    }
}

fn terminates(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}

/// Reads from behind `{` to behind `}`.
fn action(scanner: &mut Scanner<'_>, depth: usize) -> Parsed<Action> {
    let mut found = Vec::new();
    let mut range = false;
    let mut end = false;
    loop {
        if scanner.rest.starts_with("[?(") {
            scanner.take(3);
            found.push(filter(scanner, depth)?);
            continue;
        }
        if scanner.rest.starts_with("..") {
            if found.last() == Some(&Step::Recursive) {
                return Err("invalid multiple recursive descent".into());
            }
            scanner.take(2);
            found.push(Step::Recursive);
            if scanner.peek().is_some_and(|next| next.is_alphanumeric() || next == '_') {
                found.push(field(scanner.word()));
            }
            continue;
        }
        match scanner.peek() {
            None | Some('\n' | '\r') => return Err("unclosed action".into()),
            Some('}') => {
                scanner.next();
                break;
            }
            Some(' ' | '@' | '$') => {
                scanner.next();
            }
            Some('[') => {
                scanner.next();
                brackets(scanner, depth, &mut found)?;
            }
            Some(quote @ ('"' | '\'')) => {
                scanner.next();
                found.push(Step::Literal(quoted(scanner, quote)?.into()));
            }
            Some('.') => {
                scanner.next();
                found.push(field(scanner.word()));
            }
            Some('+' | '-' | '0'..='9') => found.push(number(scanner)?),
            Some(letter) if letter.is_alphanumeric() || letter == '_' => match scanner.word() {
                "true" => found.push(Step::Literal(true.into())),
                "false" => found.push(Step::Literal(false.into())),
                "range" => range = true,
                "end" => end = true,
                other => return Err(format!("unrecognized identifier {other}")),
            },
            Some(other) => {
                let code = u32::from(other);
                return Err(format!("unrecognized character in action: U+{code:04X} '{other}'"));
            }
        }
    }
    Ok(match (range, end) {
        (true, _) => Action::Range(found),
        (_, true) => Action::End,
        _ => Action::Steps(found),
    })
}

fn field(word: &str) -> Step {
    if word == "*" { Step::Wildcard } else { Step::Field(word.replace('\\', "")) }
}

fn number(scanner: &mut Scanner<'_>) -> Parsed<Step> {
    let signed = scanner.rest.starts_with(['+', '-']);
    let digits = &scanner.rest[usize::from(signed)..];
    let end = digits.find(|character: char| character != '.' && !character.is_ascii_digit());
    let text = scanner.take(end.unwrap_or(digits.len()) + usize::from(signed));
    let plain = text.trim_start_matches('+');
    let value = match (plain.parse::<i64>(), plain.parse::<f64>()) {
        (Ok(integer), _) => json!(integer),
        (_, Ok(float)) => json!(float),
        _ => return Err(format!("cannot parse number {text}")),
    };
    Ok(Step::Literal(value))
}

/// A text behind its first quote; Go's escapes.
fn quoted(scanner: &mut Scanner<'_>, quote: char) -> Parsed<String> {
    let mut text = String::new();
    loop {
        match scanner.next() {
            None | Some('\n') => return Err("unterminated quoted string".into()),
            Some(end) if end == quote => return Ok(text),
            Some('\\') => text.push(escaped(scanner)?),
            Some(other) => text.push(other),
        }
    }
}

fn escaped(scanner: &mut Scanner<'_>) -> Parsed<char> {
    let digits = match scanner.next() {
        Some('n') => return Ok('\n'),
        Some('t') => return Ok('\t'),
        Some('r') => return Ok('\r'),
        Some('a') => return Ok('\x07'),
        Some('b') => return Ok('\x08'),
        Some('f') => return Ok('\x0c'),
        Some('v') => return Ok('\x0b'),
        Some(same @ ('\\' | '\'' | '"')) => return Ok(same),
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        _ => return Err("invalid syntax".into()),
    };
    let code = scanner.rest.get(..digits).and_then(|code| u32::from_str_radix(code, 16).ok());
    let character = code.and_then(char::from_u32).ok_or("invalid syntax")?;
    scanner.take(digits);
    Ok(character)
}

/// Behind `[`: indexes, slices, keys, or several of them.
fn brackets(scanner: &mut Scanner<'_>, depth: usize, found: &mut Vec<Step>) -> Parsed<()> {
    let end = scanner.rest.find([']', '\n']).filter(|at| scanner.rest[*at..].starts_with(']'));
    let inside = scanner.take(end.ok_or("unterminated array")?);
    scanner.next();
    let inside = if inside == "*" { ":" } else { inside };
    if inside.contains(',') {
        let each = inside.split(',').map(|one| steps(&format!("[{}]", one.trim()), depth + 1));
        found.push(Step::Union(each.collect::<Parsed<_>>()?));
        return Ok(());
    }
    let key = inside.strip_prefix('\'').and_then(|key| key.strip_suffix('\''));
    if let Some(key) = key.filter(|key| !key.contains('\'')) {
        found.extend(steps(&format!(".{key}"), depth + 1)?);
        return Ok(());
    }
    let slice = slice(inside).ok_or_else(|| format!("invalid array index {inside}"))?;
    found.push(Step::Slice(slice));
    Ok(())
}

/// `1`, `-1`, `1:`, `:2`, `1:5:2`.
fn slice(text: &str) -> Option<Slice> {
    let parts: Vec<&str> = text.split(':').collect();
    let number = |at: usize| match parts.get(at).copied().unwrap_or_default() {
        "" => Some(None),
        text if text.starts_with('+') => None,
        text => text.parse::<i64>().ok().map(Some),
    };
    let (from, to, step) = (number(0)?, number(1)?, number(2)?);
    match parts.len() {
        1 => {
            let from = from.unwrap_or(0);
            Some(Slice { from: Some(from), to: from.checked_add(1), step: None, single: true })
        }
        2 | 3 => Some(Slice { from, to, step, single: false }),
        _ => None,
    }
}

/// Behind `[?(`: what is there, or a comparison.
fn filter(scanner: &mut Scanner<'_>, depth: usize) -> Parsed<Step> {
    let mut quote = None;
    let mut before = ' ';
    let end = scanner.rest.char_indices().find(|(_, character)| {
        let ends = match (quote, *character) {
            (None, ')') => true,
            (None, open @ ('"' | '\'')) => {
                quote = Some(open);
                false
            }
            (Some(open), close) if close == open && before != '\\' => {
                quote = None;
                false
            }
            _ => false,
        };
        before = *character;
        ends
    });
    let text = scanner.take(end.ok_or("unterminated filter")?.0);
    scanner.next();
    if scanner.next() != Some(']') {
        return Err("unclosed array expect ]".into());
    }
    let operates = |character: char| matches!(character, '!' | '<' | '>' | '=');
    let compared = text.find(operates).filter(|at| *at > 0).and_then(|at| {
        let (left, rest) = text.split_at(at);
        let end = rest.find(|character| !operates(character))?;
        let (operator, right) = rest.split_at(end);
        Some((left, operator, right))
    });
    let (left, operator, right) = match compared {
        Some((left, operator, right)) => {
            (steps(left, depth + 1)?, operator.to_owned(), steps(right, depth + 1)?)
        }
        None => (steps(text, depth + 1)?, "exists".into(), Vec::new()),
    };
    Ok(Step::Filter { left, operator, right })
}
