//! The function `cidr(address, network)`.
//!
//! Owns: networks, and how DataFusion evaluates the function where it is not pushed. Must not know: queries.

use datafusion::arrow::array::{Array, AsArray, BooleanArray, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::as_string_array;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use ipnet::{IpNet, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// The name of the function, which is also sent in plans.
pub(crate) const CIDR: &str = "cidr";

/// A network such as `10.0.0.0/8`, or one address. As in the servers, an IPv4 address is the IPv6 address
/// `::ffff:a.b.c.d`, so `::/0` contains all addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(Ipv6Net);

impl FromStr for Network {
    type Err = DataFusionError;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || {
            let message = format!("cidr: \"{text}\" is not a network such as 10.0.0.0/8 or 2001:db8::/32");
            DataFusionError::Execution(message)
        };
        let network = match text.parse::<IpNet>() {
            Ok(network) => network,
            Err(_) => text.parse::<IpAddr>().map_err(|_| refuse())?.into(),
        };
        let network = match network {
            IpNet::V4(v4) => Ipv6Net::new(v4.network().to_ipv6_mapped(), v4.prefix_len() + 96),
            IpNet::V6(v6) => Ok(v6),
        };
        Ok(Self(network.map_err(|_| refuse())?.trunc()))
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let address: Ipv6Addr = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        self.0.contains(&address)
    }

    /// Returns the first and the last address.
    pub(crate) fn ends(&self) -> (IpAddr, IpAddr) {
        let canonical = |address: Ipv6Addr| IpAddr::V6(address).to_canonical();
        (canonical(self.0.network()), canonical(self.0.broadcast()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.network().to_ipv4_mapped() {
            Some(v4) if self.0.prefix_len() >= 96 => write!(f, "{v4}/{}", self.0.prefix_len() - 96),
            _ => self.0.fmt(f),
        }
    }
}

/// `cidr(address, network)`: whether the network contains the address. A text that is not an address is in no
/// network. An invalid network is an error.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CidrFunction {
    signature: Signature,
}

impl CidrFunction {
    pub(super) fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for CidrFunction {
    fn name(&self) -> &str {
        CIDR
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [addresses, networks] = <[ColumnarValue; 2]>::try_from(args.args)
            .map_err(|_| DataFusionError::Internal("cidr takes an address and a network".into()))?;
        let constant = match &networks {
            ColumnarValue::Scalar(value) => match value.try_as_str().flatten() {
                Some(text) => Some(text.parse::<Network>()?),
                None => return Ok(ColumnarValue::Array(Arc::new(BooleanArray::new_null(args.number_rows)))),
            },
            ColumnarValue::Array(_) => None,
        };
        let addresses = addresses.into_array(args.number_rows)?;
        let addresses = as_string_array(&addresses)?;
        let found = match constant {
            Some(network) => within(addresses, |_| Ok(Some(network)))?,
            None => {
                let networks = networks.into_array(args.number_rows)?;
                let networks: &StringArray = networks.as_string();
                within(addresses, |row| {
                    networks.is_valid(row).then(|| networks.value(row).parse()).transpose()
                })?
            }
        };
        Ok(ColumnarValue::Array(Arc::new(found)))
    }
}

fn within(
    addresses: &StringArray,
    network: impl Fn(usize) -> Result<Option<Network>>,
) -> Result<BooleanArray> {
    let mut found = Vec::with_capacity(addresses.len());
    for (row, text) in addresses.iter().enumerate() {
        found.push(match (text, network(row)?) {
            (Some(text), Some(network)) => {
                Some(text.parse::<IpAddr>().is_ok_and(|address| network.contains(address)))
            }
            _ => None,
        });
    }
    Ok(BooleanArray::from(found))
}
