//! The plan that a prepared statement keeps from one time it runs to the next.
//!
//! Only a statement that reads from nothing keeps its plan: it depends on the types of the parameters and on the settings of the session, and on
//! no table, view or query. What the name of a model means is settled each time.

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Statement, TableFactor, Visit, Visitor};

use super::Plan;
use crate::settings::Settings;

/// The kept plan, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Kept(Option<Made>);

/// A plan and what it was made for.
#[derive(Debug)]
struct Made {
    plan: LogicalPlan,
    types: Vec<Option<FieldRef>>,
    settings: Settings,
}

impl Kept {
    /// Keeps a plan that was made for parameters of these types, under these settings.
    pub(super) fn of(plan: Plan, types: Vec<Option<FieldRef>>, settings: &Settings) -> Self {
        Self((!plan.reads).then(|| Made { plan: plan.logical, types, settings: settings.clone() }))
    }

    /// The plan, if it was made for the same.
    pub(super) fn plan(&self, types: &[Option<FieldRef>], settings: &Settings) -> Option<&LogicalPlan> {
        self.0.as_ref().filter(|made| made.types == types && made.settings == *settings).map(|made| &made.plan)
    }
}

/// Whether a statement has a FROM anywhere.
pub(super) fn reads(statement: &Statement) -> bool {
    struct Search;
    impl Visitor for Search {
        type Break = ();

        fn pre_visit_table_factor(&mut self, _: &TableFactor) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    statement.visit(&mut Search).is_break()
}
