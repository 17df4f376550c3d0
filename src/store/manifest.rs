//! What a table or view consists of: one small JSON file in its folder, replaced as a whole.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Id;

/// The manifest's name in the folder of its table or view.
pub(crate) const FILE: &str = "manifest.json";

const FORMAT: u32 = 1;

/// A table, view or schema on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    /// The schema in SQL.
    #[serde(default = "work")]
    pub(crate) schema: String,
    /// The name in SQL; the folder's name is only for people. Empty for a schema.
    pub(crate) name: String,
    /// Grows with every change of the store. Of two manifests with one name the younger counts.
    pub(crate) sequence: u64,
    /// The columns as an Arrow IPC schema message, in hexadecimal.
    columns: String,
    /// SHA-256 of the columns.
    fingerprint: String,
    #[serde(default, skip_serializing_if = "Comments::is_empty")]
    pub(crate) comments: Comments,
    #[serde(flatten)]
    pub(crate) body: Body,
}

/// What users say a relation and its columns are for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comments {
    /// Of the relation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
    /// Of its columns, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
}

impl Comments {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn work() -> String {
    super::SCHEMA.to_owned()
}

/// What differs between tables, views and schemas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Body {
    /// Rows are in `files`, in this order.
    Table { files: Vec<Part> },
    /// The query as the user wrote it.
    View { sql: String },
    /// A schema that was created.
    Schema,
}

/// A data file of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Manifest {
    pub(crate) fn new(id: &Id, sequence: u64, columns: &SchemaRef, comments: Comments, body: Body) -> Result<Self, String> {
        let columns = encode(columns)?;
        let fingerprint = hex(&Sha256::digest(&columns));
        let (schema, name) = (id.schema.clone(), id.name.clone());
        Ok(Self { format: FORMAT, schema, name, sequence, columns: hex(&columns), fingerprint, comments, body })
    }

    /// Reads and checks the manifest in `folder`; `None` where there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, String> {
        let bytes = match fs::read(folder.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!("format {} is not known to this version", manifest.format));
        }
        let columns = unhex(&manifest.columns).ok_or("its columns are not hexadecimal")?;
        if hex(&Sha256::digest(&columns)) != manifest.fingerprint {
            return Err("its columns do not have their fingerprint".to_owned());
        }
        Ok(Some(manifest))
    }

    pub(crate) fn bytes(&self) -> Result<Vec<u8>, String> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(crate) fn id(&self) -> Id {
        Id::new(self.schema.as_str(), self.name.as_str())
    }

    pub(crate) fn columns(&self) -> Result<SchemaRef, String> {
        let columns = unhex(&self.columns).ok_or("its columns are not hexadecimal")?;
        let reader = StreamReader::try_new(Cursor::new(columns), None).map_err(|error| error.to_string())?;
        Ok(reader.schema())
    }
}

fn encode(schema: &SchemaRef) -> Result<Vec<u8>, String> {
    let writer = StreamWriter::try_new(Vec::new(), &Arc::clone(schema)).map_err(|error| error.to_string())?;
    writer.into_inner().map_err(|error| error.to_string())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    text.len().is_multiple_of(2).then(|| (0..text.len()).step_by(2).map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn schema() -> SchemaRef {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true)));
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("tags \"x\"", list, true)]))
    }

    #[test]
    fn manifest_survives_a_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let parts = vec![Part { name: "1.parquet".into(), rows: 3, bytes: 99 }];
        let manifest = Manifest::new(&Id::new("work", "größe"), 7, &schema(), Comments::default(), Body::Table { files: parts }).unwrap();
        fs::write(folder.path().join(FILE), manifest.bytes().unwrap()).unwrap();
        let read = Manifest::read(folder.path()).unwrap().unwrap();
        assert_eq!(read, manifest);
        assert_eq!(read.columns().unwrap(), schema());
    }

    #[test]
    fn changed_columns_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest =
            Manifest::new(&Id::new("work", "t"), 1, &schema(), Comments::default(), Body::View { sql: "SELECT 1".into() }).unwrap();
        manifest.columns.replace_range(20..22, "ff");
        fs::write(folder.path().join(FILE), manifest.bytes().unwrap()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap_err(), "its columns do not have their fingerprint");
    }

    #[test]
    fn folder_without_manifest_is_no_relation() {
        assert_eq!(Manifest::read(tempfile::tempdir().unwrap().path()), Ok(None));
    }
}
