//! The message codec of every service: prost's, with buffers that start small.
//!
//! A node's stream carries small messages and is idle most of the time; prost's default of 8 KiB
//! per direction is most of what an idle stream costs. 512 bytes hold a heartbeat or a report;
//! larger messages grow the buffer as they come.

use std::marker::PhantomData;

use tonic::codec::{BufferSettings, Codec as TonicCodec};
use tonic_prost::ProstCodec;

const BUFFER_BYTES: usize = 512;
/// From how many buffered bytes on a frame is handed to the connection (tonic's default).
const YIELD_BYTES: usize = 32 * 1024;

/// Encodes `E` and decodes `D`.
#[derive(Debug, Clone, Copy)]
pub struct Codec<E, D>(PhantomData<(E, D)>);

impl<E, D> Default for Codec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> TonicCodec for Codec<E, D>
where
    E: prost::Message + Send + 'static,
    D: prost::Message + Default + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = <ProstCodec<E, D> as TonicCodec>::Encoder;
    type Decoder = <ProstCodec<E, D> as TonicCodec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<E, D>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<E, D>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
