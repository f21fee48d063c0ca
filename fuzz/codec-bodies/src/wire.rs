//! The wire form, written down a second time.
//!
//! Owns: what nodes of other versions send and expect. Must not know the codec, which is held against it.

use prost::Message;

/// Marks our bytes.
const MAGIC: &str = "flowsigma";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Wire {
    #[prost(string, tag = "1")]
    pub(crate) magic: String,
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6")]
    pub(crate) body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Body {
    #[prost(string, tag = "2")]
    Table(String),
    #[prost(string, tag = "3")]
    Scan(String),
    #[prost(string, tag = "4")]
    Copy(String),
    #[prost(string, tag = "5")]
    Sink(String),
    #[prost(string, tag = "6")]
    Aggregate(String),
}

pub(crate) fn encode(body: Body) -> Vec<u8> {
    Wire { magic: MAGIC.to_owned(), body: Some(body) }.encode_to_vec()
}

/// `None` if it is nothing of ours.
pub(crate) fn decode(sent: &[u8]) -> Option<Body> {
    Wire::decode(sent).ok().filter(|wire| wire.magic == MAGIC)?.body
}
