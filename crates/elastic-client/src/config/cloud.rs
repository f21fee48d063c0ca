//! The URL of the Elasticsearch cluster of a cloud id. Pure.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use url::Url;

use super::node::parse_node;

/// Users copy cloud ids with and without the padding at the end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns the URL of the Elasticsearch cluster of a cloud id, or `None` if the text is not a cloud id.
///
/// A cloud id is `name:base64("host$elasticsearch$kibana")`, where `host` and `elasticsearch` may end in a port.
pub fn parse_cloud_id(text: &str) -> Option<Url> {
    let (_, encoded) = text.rsplit_once(':')?;
    let decoded = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    let mut parts = decoded.split('$');
    let (host, port) = with_port(parts.next()?)?;
    let (cluster, own_port) = with_port(parts.next()?)?;
    let port = own_port.or(port).unwrap_or(443);
    let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if host.is_empty() || cluster.is_empty() || !plain(host) || !plain(cluster) {
        return None;
    }
    parse_node(&format!("https://{cluster}.{host}:{port}")).ok()
}

fn with_port(text: &str) -> Option<(&str, Option<u16>)> {
    match text.split_once(':') {
        Some((name, port)) => Some((name, Some(port.parse().ok()?))),
        None => Some((text, None)),
    }
}
