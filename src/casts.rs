//! Casts told apart. The engine calls a cast what it calls the value below it, and wants the aggregates, the windows and the groups of one
//! SELECT to have a name each; PostgreSQL takes `sum(x), sum(x::int)`. Where two would be called alike, their casts go through a function that
//! does nothing and is called like the type, as in `sum(::int4(x))`.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, exec_datafusion_err, internal_datafusion_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr as Planned, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{
    CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, ObjectName,
    OrderBy, Query, Select, SelectItem, SetExpr, Statement, Visit, VisitMut, Visitor, VisitorMut,
};

use crate::names::{take, type_name};

/// What the names of the functions begin with; no identifier does that is not quoted.
const SIGN: &str = "::";

/// Tells the casts of each SELECT of the statement apart, where the engine could not.
pub(crate) fn apply(statement: &mut Statement) {
    struct Selects;
    impl VisitorMut for Selects {
        type Break = ();

        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            if let SetExpr::Select(select) = query.body.as_mut() {
                tell_apart(select, query.order_by.as_mut());
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
            tell_apart(select, None);
            ControlFlow::Continue(())
        }
    }
    let _: ControlFlow<()> = VisitMut::visit(statement, &mut Selects);
}

/// The function of a name that [`apply`] has put into a statement.
pub(crate) fn function(name: &str) -> Option<Arc<ScalarUDF>> {
    let named = name.starts_with(SIGN);
    named.then(|| Arc::new(ScalarUDF::from(Told { name: name.to_owned(), signature: Signature::any(1, Volatility::Immutable) })))
}

fn tell_apart(select: &mut Select, order_by: Option<&mut OrderBy>) {
    let mut units = Units::default();
    let _: ControlFlow<()> = Visit::visit(&select.projection, &mut units);
    let _: ControlFlow<()> = Visit::visit(&select.having, &mut units);
    if let Some(order_by) = order_by.as_deref() {
        let _: ControlFlow<()> = Visit::visit(order_by, &mut units);
    }
    if !units.cast {
        return;
    }
    if has_groups(&select.group_by) {
        if let GroupByExpr::Expressions(groups, _) = &select.group_by {
            groups.iter().for_each(|group| units.add_group(group));
        }
        for item in &select.projection {
            if let SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. } = item {
                units.add(expression);
            }
        }
    }
    let mut casts = Casts { which: units.of_one_name(), above: Vec::new() };
    if casts.which.is_empty() {
        return;
    }
    let _: ControlFlow<()> = VisitMut::visit(&mut select.projection, &mut casts);
    let _: ControlFlow<()> = VisitMut::visit(&mut select.group_by, &mut casts);
    let _: ControlFlow<()> = VisitMut::visit(&mut select.having, &mut casts);
    if let Some(order_by) = order_by {
        let _: ControlFlow<()> = VisitMut::visit(order_by, &mut casts);
    }
}

fn has_groups(group_by: &GroupByExpr) -> bool {
    !matches!(group_by, GroupByExpr::Expressions(expressions, _) if expressions.is_empty())
}

/// The expressions that may get a name in a plan, by that name: as they are, and their casts.
#[derive(Default)]
struct Units {
    by_name: HashMap<String, HashMap<String, HashSet<String>>>,
    /// Whether there are casts at all.
    cast: bool,
}

impl Units {
    fn add(&mut self, expression: &Expr) {
        let mut whole = expression.clone();
        let mut kept = Spelled { casts: Some(HashSet::new()) };
        let _: ControlFlow<()> = VisitMut::visit(&mut whole, &mut kept);
        let mut bare = expression.clone();
        let _: ControlFlow<()> = VisitMut::visit(&mut bare, &mut Spelled { casts: None });
        let casts = kept.casts.unwrap_or_default();
        self.by_name.entry(spelled(&bare)).or_default().insert(spelled(&whole), casts);
    }

    /// Adds a group, or those of sets.
    fn add_group(&mut self, group: &Expr) {
        match group {
            Expr::GroupingSets(sets) | Expr::Rollup(sets) | Expr::Cube(sets) => sets.iter().flatten().for_each(|group| self.add(group)),
            group => self.add(group),
        }
    }

    /// The casts of what would be called alike and is not the same.
    fn of_one_name(self) -> HashSet<String> {
        self.by_name.into_values().filter(|alike| alike.len() > 1).flat_map(HashMap::into_values).flatten().collect()
    }
}

impl Visitor for Units {
    type Break = ();

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        match expression {
            Expr::Function(_) => self.add(expression),
            Expr::Cast { .. } => self.cast = true,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Writes what is the same to the engine in the same way: columns without their relation, casts in one spelling, or not at all.
struct Spelled {
    casts: Option<HashSet<String>>,
}

impl VisitorMut for Spelled {
    type Break = ();

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        match expression {
            Expr::CompoundIdentifier(names) => {
                if let Some(column) = names.pop() {
                    *expression = Expr::Identifier(column);
                }
            }
            Expr::Nested(inner) => *expression = take(inner),
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, .. } => match &mut self.casts {
                Some(casts) => {
                    let of_value = matches!(expr.as_ref(), Expr::Value(_) | Expr::TypedString(_));
                    *expression = call(take(expr), type_of(data_type));
                    if !of_value {
                        casts.insert(spelled(expression));
                    }
                }
                None => *expression = take(expr),
            },
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn spelled(expression: &Expr) -> String {
    expression.to_string().to_lowercase()
}

fn type_of(data_type: &datafusion::sql::sqlparser::ast::DataType) -> String {
    let written = data_type.to_string().to_lowercase();
    if written.contains('(') { written } else { type_name(data_type).unwrap_or(written) }
}

/// Puts the casts that are among these into their functions.
struct Casts {
    which: HashSet<String>,
    /// Of the expressions around the one at hand, the types of those that are.
    above: Vec<Option<String>>,
}

impl VisitorMut for Casts {
    type Break = ();

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        let found = match &*expression {
            Expr::Cast { data_type, .. } => {
                let mut whole = expression.clone();
                let _: ControlFlow<()> = VisitMut::visit(&mut whole, &mut Spelled { casts: Some(HashSet::new()) });
                self.which.contains(&spelled(&whole)).then(|| type_of(data_type))
            }
            _ => None,
        };
        self.above.push(found);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if let Some(type_name) = self.above.pop().flatten() {
            *expression = call(take(expression), type_name);
        }
        ControlFlow::Continue(())
    }
}

fn call(argument: Expr, type_name: String) -> Expr {
    let name = ObjectName::from(vec![Ident::with_quote('"', format!("{SIGN}{type_name}"))]);
    let args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))];
    Expr::Function(Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Gives back what it is given, and is gone once the plan has its names.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Told {
    name: String,
    signature: Signature,
}

impl ScalarUDFImpl for Told {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(internal_datafusion_err!("the type is that of the field"))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = args.arg_fields.first().ok_or_else(|| exec_datafusion_err!("a cast of nothing"))?;
        Ok(Arc::new(field.as_ref().clone().with_name(&self.name)))
    }

    fn simplify(&self, mut args: Vec<Planned>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match args.pop() {
            Some(value) => ExprSimplifyResult::Simplified(value),
            None => ExprSimplifyResult::Original(args),
        })
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        args.args.pop().ok_or_else(|| exec_datafusion_err!("a cast of nothing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn applied(sql: &str) -> String {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect("valid SQL").remove(0);
        apply(&mut statement);
        statement.to_string()
    }

    #[test]
    fn casts_of_what_would_be_called_alike_are_told_apart() {
        assert_eq!(
            applied("SELECT sum(id), sum(t.id::INT) FROM t ORDER BY sum(id::integer)"),
            "SELECT sum(id), sum(\"::int4\"(t.id::INT)) FROM t ORDER BY sum(\"::int4\"(id::INTEGER))"
        );
        assert_eq!(
            applied("SELECT x, x::text FROM t GROUP BY 1, x::text"),
            "SELECT x, \"::text\"(x::TEXT) FROM t GROUP BY 1, \"::text\"(x::TEXT)"
        );
        assert_eq!(applied("SELECT max(x::INT::TEXT), max(x) FROM t"), "SELECT max(\"::text\"(\"::int4\"(x::INT)::TEXT)), max(x) FROM t");
    }

    #[test]
    fn other_casts_are_left_alone() {
        for sql in ["SELECT sum(x::INT), max(x) FROM t", "SELECT x, x::TEXT FROM t", "SELECT CAST(x AS INT) FROM t GROUP BY x::INT4"] {
            assert_eq!(applied(sql), sql);
        }
    }
}
