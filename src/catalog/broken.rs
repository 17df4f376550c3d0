//! A table that is there but cannot be read.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::error::Error;

/// Stands for a table whose files cannot be read, so that listings show it and its use tells the reason.
///
/// It has no columns. Planning a statement over it would complain about a missing column; ask [`broken`] first.
#[derive(Debug)]
pub struct BrokenTable {
    error: Error,
}

impl BrokenTable {
    pub(crate) fn new(error: Error) -> Self {
        Self { error }
    }

    /// Why the table cannot be read.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }
}

/// Why `table` cannot be read, if it cannot.
#[must_use]
pub fn broken(table: &dyn TableProvider) -> Option<&Error> {
    table.downcast_ref::<BrokenTable>().map(BrokenTable::error)
}

#[async_trait]
impl TableProvider for BrokenTable {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(&self, _: &dyn Session, _: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        Err(self.error.clone().into())
    }
}
