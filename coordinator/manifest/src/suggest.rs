//! Did you mean: the known name nearest to a mistyped one.

/// The nearest of `known`, where one is near enough to have been meant.
pub(crate) fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    /// No field of Kubernetes has a longer name, and comparing costs the square of it.
    const LONGEST: usize = 64;
    if typed.len() > LONGEST {
        return None;
    }
    // One slip in a short name, two or three in a long one; more and it is another word.
    let most = (typed.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (distance(&typed.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(slips, _)| *slips <= most)
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be added, dropped, changed or swapped with their neighbour (the optimal
/// string alignment distance).
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let change = usize::from(from[i - 1] != to[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_seen_through_and_other_words_are_not() {
        let known = ["labels", "annotations", "name", "namespace", "image", "imagePullPolicy"];
        for (typed, meant) in [
            ("lables", Some("labels")),
            ("imagee", Some("image")),
            ("Name", Some("name")),
            ("imagepullpolicy", Some("imagePullPolicy")),
            ("anotation", Some("annotations")),
            ("replicas", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }

    #[test]
    fn a_swap_is_one_slip() {
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
