//! A statement as its client wrote it becomes one that the engine plans.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{Expr, ObjectName, Query, Statement, TableFactor, VisitMut, VisitorMut};
use datafusion_pg_catalog::sql::rules::{
    FixArrayLiteral, RewriteArrayAnyAllOperation, RewritePgCatalogOperator, RewriteRegCastToSubquery, SqlStatementRewriteRule, StripCollate,
};

use super::idiom;
use crate::planner;

/// Schemas whose functions keep their schema in their name.
const OURS: [&str; 2] = ["ml", "ai"];

/// Parses the queries that it puts in the place of casts when it is made.
static CASTS: LazyLock<RewriteRegCastToSubquery> = LazyLock::new(RewriteRegCastToSubquery::new);

/// Turns calls of our functions into their declared form and PostgreSQL's catalog idioms into what the engine plans.
pub(crate) async fn rewrite(state: &SessionState, path: &[String], statement: Statement) -> Result<Statement> {
    let rules: [&dyn SqlStatementRewriteRule; 6] =
        [&RewriteArrayAnyAllOperation, &StripSchema, &FixArrayLiteral, &StripCollate, &RewritePgCatalogOperator, &*CASTS];
    let mut statement = statement;
    idiom::apply(&mut statement);
    let mut statement = rules.iter().fold(statement, |statement, rule| rule.rewrite(statement));
    stratagem_udfs::rewrite::rewrite(&mut statement, &PlanScope { state, path }).await?;
    Ok(statement)
}

/// Takes the schema off the names of called functions, as the engine knows its own by their bare names.
#[derive(Debug)]
struct StripSchema;

impl SqlStatementRewriteRule for StripSchema {
    fn rewrite(&self, mut statement: Statement) -> Statement {
        let _ = VisitMut::visit(&mut statement, &mut StripSchema);
        statement
    }
}

impl VisitorMut for StripSchema {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } = factor {
            strip(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(call) = expression {
            strip(&mut call.name);
        }
        ControlFlow::Continue(())
    }
}

fn strip(name: &mut ObjectName) {
    let ours = |ident: &datafusion::sql::sqlparser::ast::Ident| OURS.iter().any(|schema| ident.value.eq_ignore_ascii_case(schema));
    let qualified = name.0.len() > 1 && !name.0[0].as_ident().is_some_and(ours);
    if qualified && let Some(bare) = name.0.pop() {
        name.0 = vec![bare];
    }
}

/// Tells the rewrite which columns a relation of the statement has, by planning it.
struct PlanScope<'a> {
    state: &'a SessionState,
    path: &'a [String],
}

#[async_trait::async_trait]
impl stratagem_udfs::rewrite::Scope for PlanScope<'_> {
    async fn columns(&self, query: &Query) -> Result<Vec<String>> {
        let plan = planner::plan(self.state, self.path, Statement::Query(Box::new(query.clone())), Vec::new()).await?;
        Ok(plan.schema().fields().iter().map(|f| f.name().clone()).collect())
    }
}
