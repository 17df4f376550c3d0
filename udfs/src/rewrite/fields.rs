//! Fields of values that are rows, as PostgreSQL writes them: `(value).field`.

use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Subscript, Value};

use super::arguments::normal;

/// `(value).field` becomes `(value)['field']`, which the engine knows.
pub(super) fn subscript(expression: &mut Expr) {
    let Expr::CompoundFieldAccess { access_chain, .. } = expression else { return };
    for access in access_chain {
        if let AccessExpr::Dot(Expr::Identifier(field)) = access {
            let name = Expr::value(Value::SingleQuotedString(normal(field)));
            *access = AccessExpr::Subscript(Subscript::Index { index: name });
        }
    }
}
