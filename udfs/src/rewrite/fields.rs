//! Fields of values that are rows, as PostgreSQL writes them: `(value).field`.

use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Subscript, Value};

use super::arguments::normal;

/// `(value).field` becomes `(value)['field']`, which the engine knows. The dots of `table.column[1]` stay: they follow a bare name.
pub(super) fn subscript(expression: &mut Expr) {
    let Expr::CompoundFieldAccess { root, access_chain } = expression else { return };
    let mut in_name = matches!(**root, Expr::Identifier(_));
    for access in access_chain {
        in_name &= matches!(access, AccessExpr::Dot(_));
        if !in_name && let AccessExpr::Dot(Expr::Identifier(field)) = access {
            let name = Expr::value(Value::SingleQuotedString(normal(field)));
            *access = AccessExpr::Subscript(Subscript::Index { index: name });
        }
    }
}
