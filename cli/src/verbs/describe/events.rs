//! The events about an object, at the end of its description.

use std::fmt::Write as _;

use everynode_proto::v1::{Event, ListRequest};

use crate::age::{age, unix_now};
use crate::connect::Client;
use crate::error::Error;
use crate::kinds::{Events, Kind as _};

/// The most events that are shown: a screen, the newest of them.
const MOST: usize = 25;

/// The events about `kind` `name`. Where they can't be had, the rest is still worth showing.
pub(super) async fn about(
    client: &Client,
    namespace: &str,
    kind: &str,
    name: &str,
) -> Result<String, Error> {
    let request = ListRequest {
        namespace: namespace.into(),
        field: format!("{kind}/{name}"),
        ..ListRequest::default()
    };
    match Events::list(client, request).await {
        Ok(listed) => Ok(text(&listed.items, unix_now())),
        Err(Error::Refused(refusal)) => {
            Ok(format!("Events:\t<not to be had: {}>\n", refusal.reason))
        }
        Err(error) => Err(error),
    }
}

fn text(events: &[Event], now: i64) -> String {
    let mut text = String::new();
    if events.is_empty() {
        text.push_str("Events:\t<none>\n");
        return text;
    }
    text.push_str("Events:\n  Type\tReason\tAge\tMessage\n  ----\t------\t----\t-------\n");
    for event in &events[events.len().saturating_sub(MOST)..] {
        let last = age(event.last_timestamp.as_ref(), now);
        let when = match event.count {
            ..=1 => last,
            count => format!("{last} (x{count} over {})", age(event.first_timestamp.as_ref(), now)),
        };
        let message = event.message.replace(['\t', '\n'], " ");
        let _ = writeln!(text, "  {}\t{}\t{when}\t{}", event.r#type, event.reason, message.trim());
    }
    text
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;
    use crate::table::align_tabs;

    #[test]
    fn events_are_laid_out_like_kubectls() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let event = Event {
            r#type: "Warning".into(),
            reason: "BackOff".into(),
            message: "restarting".into(),
            count: 3,
            first_timestamp: at(0),
            last_timestamp: at(540),
            ..Event::default()
        };
        assert_eq!(
            align_tabs(&text(&[event], 600)),
            "Events:\n  Type     Reason   Age                Message\n  \
             ----     ------   ----               -------\n  \
             Warning  BackOff  60s (x3 over 10m)  restarting\n"
        );
        assert_eq!(text(&[], 0), "Events:\t<none>\n");
    }
}
