//! Turns an order into messages: the whole, or the change from what was sent before, in chunks.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use everynode_coordinator_core::Order;
use everynode_model::{Change, Digest};
use everynode_proto::v1;

/// About how many bytes one chunk has. A message may be four times as long, and no single body is
/// longer than a store transaction (1 MiB), so a chunk with one large body still fits.
const CHUNK_BYTES: usize = 1024 * 1024;

/// About what an item takes beside its names.
const ITEM_BYTES: usize = 160;

/// What the peer holds, as far as this session knows.
#[derive(Default)]
pub(super) struct Sent {
    order: Option<Arc<Order>>,
    bodies: BTreeSet<Digest>,
}

impl Sent {
    /// Nothing was sent yet; the peer holds these bodies from before.
    pub(super) fn holding(bodies: BTreeSet<Digest>) -> Self {
        Self { order: None, bodies }
    }

    /// The messages that bring the peer to `order`. With `whole`, nothing is taken for granted.
    pub(super) fn bring_to(&mut self, order: Arc<Order>, whole: bool) -> VecDeque<v1::Assignment> {
        if whole {
            *self = Self::default();
        }
        let (from, change) = match &self.order {
            Some(sent) => (
                sent.stamp.digest.as_bytes().to_vec(),
                sent.assignment.change_to(&order.assignment),
            ),
            None => (
                Vec::new(),
                Change { put: order.assignment.items().cloned().collect(), removed: Vec::new() },
            ),
        };
        let bodies = self.missing_bodies(&order);
        let chunks = chunks(&order, from, &change, bodies);
        self.order = Some(order);
        chunks
    }

    fn missing_bodies(&mut self, order: &Order) -> Vec<v1::Body> {
        let mut missing = Vec::new();
        for (digest, content) in &order.bodies {
            if self.bodies.insert(*digest) {
                missing.push(v1::Body {
                    digest: digest.as_bytes().to_vec(),
                    content: content.to_vec(),
                });
            }
        }
        // What the order does not name any more, the peer may drop.
        self.bodies.retain(|digest| order.bodies.contains_key(digest));
        missing
    }
}

fn chunks(
    order: &Order,
    from: Vec<u8>,
    change: &Change,
    bodies: Vec<v1::Body>,
) -> VecDeque<v1::Assignment> {
    let mut chunks = VecDeque::from([v1::Assignment::default()]);
    let mut bytes = 0;
    let mut room = |chunks: &mut VecDeque<v1::Assignment>, more: usize| {
        if bytes > 0 && bytes + more > CHUNK_BYTES {
            chunks.push_back(v1::Assignment::default());
            bytes = 0;
        }
        bytes += more;
    };
    for body in bodies {
        room(&mut chunks, body.content.len());
        if let Some(chunk) = chunks.back_mut() {
            chunk.bodies.push(body);
        }
    }
    for item in &change.put {
        room(&mut chunks, ITEM_BYTES + item.key.name().len() + item.key.namespace().len());
        if let Some(chunk) = chunks.back_mut() {
            chunk.items.push(item.into());
        }
    }
    for key in &change.removed {
        room(&mut chunks, ITEM_BYTES + key.name().len());
        if let Some(chunk) = chunks.back_mut() {
            chunk.removed.push(key.into());
        }
    }
    let last = chunks.len().saturating_sub(1);
    for (number, chunk) in chunks.iter_mut().enumerate() {
        chunk.stamp = Some((&order.stamp).into());
        chunk.from.clone_from(&from);
        chunk.chunk = u32::try_from(number).unwrap_or(u32::MAX);
        chunk.last = number == last;
        chunk.empty_is_meant = chunk.last && order.assignment.is_empty();
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::{
        Assignment, ClusterId, Generation, Intent, Item, PodKey, ReignId, SetUid, Stamp, Term,
    };
    use uuid::Uuid;

    fn order(generation: u64, items: &[(&str, &str)]) -> Arc<Order> {
        let item = |(name, body): &(&str, &str)| Item {
            key: PodKey::new("default", name).unwrap(),
            set: SetUid::new(Uuid::nil()),
            revision: Digest::of(body.as_bytes()),
            replace: 0,
            intent: Intent::Run,
            after: Vec::new(),
            surge: None,
            labels: Default::default(),
        };
        let assignment = Assignment::new(items.iter().map(item));
        let bodies = items.iter().map(|(_, body)| (Digest::of(body.as_bytes()), body.as_bytes()));
        Arc::new(Order {
            stamp: Stamp {
                cluster: ClusterId::new(Uuid::nil()),
                term: Term(1),
                reign: ReignId::new(Uuid::nil()),
                generation: Generation(generation),
                digest: assignment.digest(),
            },
            assignment,
            bodies: bodies.map(|(digest, body)| (digest, body.into())).collect(),
        })
    }

    fn names(chunk: &v1::Assignment) -> Vec<String> {
        chunk.items.iter().map(|item| item.key.clone().unwrap_or_default().name).collect()
    }

    #[test]
    fn first_the_whole_then_the_change() {
        let (mut sent, first) = (Sent::default(), order(1, &[("a", "x"), ("b", "x")]));
        let whole = sent.bring_to(Arc::clone(&first), false);
        assert_eq!((whole.len(), whole[0].from.len(), whole[0].last), (1, 0, true));
        assert_eq!((names(&whole[0]).len(), whole[0].bodies.len()), (2, 1));

        let change = sent.bring_to(order(2, &[("b", "y"), ("c", "x")]), false);
        assert_eq!(change[0].from, first.stamp.digest.as_bytes());
        assert_eq!(names(&change[0]), ["b", "c"]);
        assert_eq!(change[0].removed.len(), 1);
        assert_eq!(change[0].bodies.len(), 1, "the peer holds x already");
    }

    #[test]
    fn what_the_peer_holds_is_not_sent_unless_it_asks() {
        let wanted = order(1, &[("a", "x")]);
        let mut sent = Sent::holding([Digest::of(b"x")].into());
        assert!(sent.bring_to(Arc::clone(&wanted), false)[0].bodies.is_empty());
        let again = sent.bring_to(wanted, true);
        assert_eq!((again[0].bodies.len(), again[0].from.len()), (1, 0));
    }

    #[test]
    fn an_empty_whole_is_marked_as_meant_and_nothing_else_is() {
        let mut sent = Sent::default();
        assert!(sent.bring_to(order(1, &[]), false)[0].empty_is_meant);
        assert!(!sent.bring_to(order(2, &[("a", "x")]), false)[0].empty_is_meant);
        assert!(sent.bring_to(order(3, &[]), false)[0].empty_is_meant);
    }

    #[test]
    fn large_bodies_are_spread_over_numbered_chunks() {
        let (x, y) = ("x".repeat(CHUNK_BYTES - 10), "y".repeat(CHUNK_BYTES - 10));
        let chunks = Sent::default().bring_to(order(1, &[("a", &x), ("b", &y)]), false);
        assert_eq!(chunks.len(), 3);
        for (number, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk.chunk as usize, number);
            assert_eq!(chunk.last, number == 2);
            assert!(prost::Message::encoded_len(chunk) < 2 * CHUNK_BYTES);
        }
    }
}
