//! A writable schema as the engine's catalog takes it.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::TableType;

use super::{Draft, Id};

/// A schema with the changes of a draft.
#[derive(Debug)]
pub(super) struct WritableSchema {
    pub(super) name: String,
    pub(super) draft: Arc<Draft>,
}

impl WritableSchema {
    fn id(&self, name: &str) -> Id {
        Id::new(self.name.as_str(), name)
    }
}

#[async_trait]
impl SchemaProvider for WritableSchema {
    fn table_names(&self) -> Vec<String> {
        self.draft.names(&self.name)
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.draft.provider(&self.id(name)).await)
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        // does not read the table, unlike the default
        let view = self.draft.is_view(&self.id(name));
        Ok(view.map(|view| if view { TableType::View } else { TableType::Base }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.draft.contains(&self.id(name))
    }
}
