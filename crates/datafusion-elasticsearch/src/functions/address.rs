//! `ip_key(text)` and `ip_text(key)`: sort keys whose text order is the order of addresses, and back.
//!
//! Owns: the keys and the two functions. Must not know: which expressions need them (`address_order.rs`).

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use elastic_arrow::{IP_TYPE, TYPE_KEY};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// The name of the function, which is also sent in plans.
pub(crate) const IP_KEY: &str = "ip_key";

/// The name of the function, which is also sent in plans.
pub(crate) const IP_TEXT: &str = "ip_text";

/// A text key that sorts as servers sort addresses: by 128 bits, with IPv4 as the IPv6 address `::ffff:a.b.c.d`.
/// The key of a text that is not an address sorts after all addresses, in the order of the text.
///
/// The key is text and not bytes, because DataFusion has no window frames over bytes.
pub(crate) struct AddressKey;

impl AddressKey {
    const ADDRESS: char = '0';
    const OTHER_TEXT: char = '1';

    /// Returns the key of a text.
    pub(crate) fn of(text: &str) -> String {
        let bits = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) => v4.to_ipv6_mapped().to_bits(),
            Ok(IpAddr::V6(v6)) => v6.to_bits(),
            Err(_) => return format!("{}{text}", Self::OTHER_TEXT),
        };
        format!("{}{bits:032x}", Self::ADDRESS)
    }

    /// Returns the address of a key; `None` if it is the key of another text, or not a key.
    pub(crate) fn address(key: &str) -> Option<IpAddr> {
        let digits = key.strip_prefix(Self::ADDRESS).filter(|digits| digits.len() == 32)?;
        let bits = u128::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
        Some(IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical())
    }

    /// Returns the text of a key; an address is in its canonical form.
    fn text(key: &str) -> Option<String> {
        match key.strip_prefix(Self::OTHER_TEXT) {
            Some(text) => Some(text.to_owned()),
            None => Self::address(key).map(|address| address.to_string()),
        }
    }
}

/// The function `ip_key(text)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyFunction {
    signature: Signature,
}

impl KeyFunction {
    pub(super) fn new() -> Self {
        Self { signature: Signature::string(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for KeyFunction {
    fn name(&self) -> &str {
        IP_KEY
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        on_array(&args, |texts| {
            Ok(match texts.data_type() {
                DataType::Utf8 => keys_of(texts.as_string::<i32>().iter()),
                DataType::LargeUtf8 => keys_of(texts.as_string::<i64>().iter()),
                DataType::Utf8View => keys_of(texts.as_string_view().iter()),
                other => return exec_err!("{IP_KEY} takes the text of an address, not {other}"),
            })
        })
    }
}

fn keys_of<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut keys = StringBuilder::new();
    texts.for_each(|text| keys.append_option(text.map(AddressKey::of)));
    Arc::new(keys.finish())
}

/// The function `ip_text(key)`, whose result is an `ip` column again.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TextFunction {
    signature: Signature,
}

impl TextFunction {
    pub(super) fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Utf8], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TextFunction {
    fn name(&self) -> &str {
        IP_TEXT
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        let metadata = [(TYPE_KEY.to_owned(), IP_TYPE.to_owned())].into();
        Ok(Arc::new(Field::new(IP_TEXT, DataType::Utf8, true).with_metadata(metadata)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        on_array(&args, |keys| {
            let Some(keys) = keys.as_string_opt::<i32>() else {
                return exec_err!("{IP_TEXT} takes what {IP_KEY} returns, not {}", keys.data_type());
            };
            let mut texts = StringBuilder::new();
            for key in keys {
                match key.map(AddressKey::text) {
                    Some(None) => return exec_err!("{IP_TEXT} takes a key of {IP_KEY}, got another text"),
                    text => texts.append_option(text.flatten()),
                }
            }
            Ok(Arc::new(texts.finish()))
        })
    }
}

/// Applies `function` to the one argument. The result for a constant is a constant.
fn on_array(
    args: &ScalarFunctionArgs,
    function: impl Fn(&ArrayRef) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    match args.args.as_slice() {
        [ColumnarValue::Array(array)] => Ok(ColumnarValue::Array(function(array)?)),
        [ColumnarValue::Scalar(value)] => {
            let array = function(&value.to_array()?)?;
            Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&array, 0)?))
        }
        other => exec_err!("one argument is expected, not {}", other.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_as_servers_compare_addresses() {
        let ascending = [
            "::",
            "::1",
            "::fffe:ffff:ffff",
            "0.0.0.0",
            "9.255.255.255",
            "10.0.0.2",
            "10.0.0.10",
            "147.32.84.165",
            "255.255.255.255",
            "::1:0:0:0",
            "2001:db8::1",
            "2001:db8::10",
            "fe80::1",
            "",
            "10.0.0.0/8",
            "nothing",
        ];
        for pair in ascending.windows(2) {
            assert!(AddressKey::of(pair[0]) < AddressKey::of(pair[1]), "{pair:?}");
        }
        for text in ascending {
            assert_eq!(AddressKey::text(&AddressKey::of(text)).as_deref(), Some(text));
        }
        for (spelled, canonical) in [("::ffff:10.0.0.7", "10.0.0.7"), ("2001:0DB8:0::7", "2001:db8::7")] {
            assert_eq!(AddressKey::text(&AddressKey::of(spelled)).as_deref(), Some(canonical));
        }
        for text in ["", "0", "0123", "2", "0+000000000000000000000000000000f"] {
            assert_eq!(AddressKey::text(text), None);
        }
    }
}
