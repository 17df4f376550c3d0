//! The database as one session sees it: the data folder, what is common to all, and the writable schemas with the session's own changes.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider};

use crate::planner::DATABASE;
use crate::store::Draft;

/// The list of the one database.
#[derive(Debug)]
pub(super) struct Databases(pub(super) Arc<Database>);

/// The database of a session.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) common: Arc<dyn CatalogProvider>,
    pub(super) draft: Arc<Draft>,
}

impl CatalogProviderList for Databases {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![DATABASE.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == DATABASE).then(|| Arc::clone(&self.0) as _)
    }
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.common.schema_names();
        names.extend(self.draft.schemas());
        names.sort();
        names.dedup();
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.draft.schema(name).or_else(|| self.common.schema(name))
    }
}
