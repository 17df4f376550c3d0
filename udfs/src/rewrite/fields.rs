//! Fields of values that are rows, as PostgreSQL writes them: `(value).field`.

use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Subscript, Value};

use super::arguments::normal;

/// `(value).field` becomes `(value)['field']`, which the engine knows.
pub(super) fn subscript(expression: &mut Expr) {
    let Expr::CompoundFieldAccess { root, access_chain } = expression else { return };
    // In `t.list[1]` what stands before the first subscript is the name of a column.
    let name = matches!(**root, Expr::Identifier(_));
    let qualified = access_chain.iter().take_while(|access| name && matches!(access, AccessExpr::Dot(_))).count();
    for access in access_chain.iter_mut().skip(qualified) {
        if let AccessExpr::Dot(Expr::Identifier(field)) = access {
            let name = Expr::value(Value::SingleQuotedString(normal(field)));
            *access = AccessExpr::Subscript(Subscript::Index { index: name });
        }
    }
}
