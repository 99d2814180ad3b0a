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
