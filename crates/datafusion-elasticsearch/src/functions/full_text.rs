//! The function `match(column, 'text')`.
//!
//! Owns: its signature, and the error where it is not pushed, because only the server knows how it analyzed the
//! field. Must not know: queries.

use datafusion::arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// The name of the function, which is also sent in plans.
pub(crate) const MATCH: &str = "match";

/// Whether the server's [`match`
/// query](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/query-dsl-match-query.html) finds the
/// document: any value of the column contains any term of the text. Null if the column has no value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MatchFunction {
    signature: Signature,
}

impl MatchFunction {
    pub(super) fn new() -> Self {
        // Stable and not immutable, so that DataFusion does not try to evaluate it on constants.
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

/// Returns the error for a match that is not a filter, or cannot be pushed.
pub(crate) fn match_refused() -> DataFusionError {
    DataFusionError::Plan(
        "match(column, 'text') runs only on the server: use it in WHERE with a literal and an \
         indexed column of text or keyword, combined with other conditions by AND, and only with other \
         matches by OR and NOT; or write it in the table option query"
            .into(),
    )
}
