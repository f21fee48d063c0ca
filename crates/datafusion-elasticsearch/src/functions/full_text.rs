//! `match(column, 'text')`.
//!
//! Owns: its signature, and the refusal where it is not pushed: only the server knows how it cut a
//! field into words. Must not know: queries.

use datafusion::arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// The function's name, also on other nodes.
pub(crate) const MATCH: &str = "match";

/// Whether the server's `match` query finds the document: any value of the column has any of the
/// text's words. Unknown where the column has no value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MatchFunction {
    signature: Signature,
}

impl MatchFunction {
    pub(super) fn new() -> Self {
        // Stable, not immutable: it is no constant even of constants.
        Self { signature: Signature::any(2, Volatility::Stable) }
    }
}

impl ScalarUDFImpl for MatchFunction {
    fn name(&self) -> &str {
        MATCH
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(match_refused())
    }
}

/// The error for a match that is no filter, or none that can be pushed.
pub(crate) fn match_refused() -> DataFusionError {
    DataFusionError::Plan(
        "match(column, 'text') is answered by the server alone: use it in WHERE with a literal and an \
         indexed column of text or keyword, combined with other conditions by AND, and only with other \
         matches by OR and NOT; or put it into the table option query"
            .into(),
    )
}
