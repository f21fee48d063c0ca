//! placeholder
/// placeholder
pub fn codec(_: &[u8]) {}
