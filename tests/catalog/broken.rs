//! A broken file breaks its own table, and the error names it.

use std::fs;

use stratagem::catalog::{Error, broken};

use crate::fixture::Shop;

async fn reason(shop: &Shop, table: &str) -> Error {
    let error = shop.error(&format!("SELECT * FROM {table}")).await;
    Error::find(&error).unwrap_or_else(|| panic!("{error}")).clone()
}

#[tokio::test]
async fn broken_files_break_only_their_own_tables() {
    let shop = Shop::new();
    shop.put("good.parquet", "SELECT 1 AS id").await;
    shop.put("cut.parquet", "SELECT value AS id FROM generate_series(1, 1000)").await;
    let bytes = fs::read(shop.path("cut.parquet")).unwrap();
    fs::write(shop.path("cut.parquet"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(shop.path("text.parquet"), "id,name\n1,a\n").unwrap();
    fs::write(shop.path("zero.parquet"), "").unwrap();
    fs::write(shop.path("magic.parquet"), "PAR1PAR1PAR1PAR1").unwrap();
    let mut huge = b"PAR1".to_vec();
    huge.extend_from_slice(&u32::MAX.to_le_bytes());
    huge.extend_from_slice(b"PAR1");
    fs::write(shop.path("huge.parquet"), huge).unwrap();
    fs::create_dir(shop.path("empty.parquet")).unwrap();
    fs::create_dir(shop.path("dir")).unwrap();
    fs::create_dir(shop.path("dir/nothing")).unwrap();

    for table in ["cut", "text", "zero", "magic", "huge"] {
        let error = reason(&shop, table).await;
        let expected = format!("{table}.parquet");
        assert!(matches!(&error, Error::NotParquet { path, .. } if *path == expected), "{error}");
    }
    assert_eq!(reason(&shop, "empty").await, Error::Empty { path: "empty.parquet".into() });
    assert_eq!(reason(&shop, "dir.nothing").await, Error::Empty { path: "dir/nothing".into() });

    assert_eq!(shop.rows("SELECT id FROM good").await, "1");
    assert_eq!(
        shop.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1").await,
        "cut\nempty\ngood\nhuge\nmagic\ntext\nzero"
    );
    assert_eq!(shop.rows("SELECT table_name FROM information_schema.columns WHERE table_schema = 'public'").await, "good");
    let problems: Vec<_> =
        shop.catalog.problems().await.into_iter().map(|problem| format!("{}.{}", problem.schema, problem.table)).collect();
    assert_eq!(problems, ["dir.nothing", "public.cut", "public.empty", "public.huge", "public.magic", "public.text", "public.zero"]);
}

#[tokio::test]
async fn planner_can_ask_for_the_reason() {
    let shop = Shop::new();
    fs::write(shop.path("text.parquet"), "not parquet at all").unwrap();
    let table = shop.session.table_provider("text").await.unwrap();
    let error = broken(table.as_ref()).unwrap();
    assert!(error.to_string().starts_with("file text.parquet is not a complete Parquet file: "), "{error}");
    shop.put("good.parquet", "SELECT 1 AS id").await;
    let table = shop.session.table_provider("good").await.unwrap();
    assert!(broken(table.as_ref()).is_none());
}

#[tokio::test]
async fn repaired_file_is_read_again() {
    let shop = Shop::new();
    fs::write(shop.path("t.parquet"), "half a file").unwrap();
    assert!(matches!(reason(&shop, "t").await, Error::NotParquet { .. }));
    shop.put("t.parquet", "SELECT 1 AS id").await;
    assert_eq!(shop.rows("SELECT id FROM t").await, "1");
}

#[tokio::test]
async fn type_drift_names_both_files_and_the_column() {
    let shop = Shop::new();
    shop.put("t/part-0.parquet", "SELECT 1 AS id, 2 AS price").await;
    shop.put("t/part-1.parquet", "SELECT 1 AS id, 'two' AS price").await;
    let error = reason(&shop, "t").await;
    assert_eq!(error.to_string(), "column price is Int64 in file t/part-0.parquet and Utf8View in file t/part-1.parquet");
}

#[tokio::test]
async fn one_broken_part_breaks_the_table_and_is_named() {
    let shop = Shop::new();
    shop.put("t/part-0.parquet", "SELECT 1 AS id").await;
    fs::write(shop.path("t/part-1.parquet"), "junk junk junk").unwrap();
    assert!(matches!(reason(&shop, "t").await, Error::NotParquet { path, .. } if path == "t/part-1.parquet"));
}

#[tokio::test]
async fn damaged_pages_are_blamed_on_their_file() {
    let shop = Shop::new();
    for part in 0..3 {
        let query = "SELECT value AS id, md5(CAST(value AS VARCHAR)) AS noise FROM generate_series(1, 5000)";
        let zstd = datafusion::parquet::basic::Compression::ZSTD(Default::default());
        let properties = datafusion::parquet::file::properties::WriterProperties::builder().set_compression(zstd).build();
        crate::fixture::write(&shop.path(&format!("t/part-{part}.parquet")), query, properties).await;
    }
    let path = shop.path("t/part-1.parquet");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    assert_eq!(shop.rows("SELECT count(*) FROM t").await, "15000", "the footers are fine");
    let error = shop.error("SELECT max(noise), sum(id) FROM t WHERE noise <> ''").await;
    assert!(matches!(Error::find(&error), Some(Error::Damaged { path, .. }) if path == "t/part-1.parquet"), "{error}");
    shop.put("other.parquet", "SELECT 1 AS id").await;
    assert_eq!(shop.rows("SELECT id FROM other").await, "1");
}

#[tokio::test]
async fn every_flipped_byte_of_a_footer_is_an_error_or_a_right_answer_but_no_panic() {
    let shop = Shop::new();
    shop.put("t.parquet", "SELECT value AS id, 'text' AS name FROM generate_series(1, 3)").await;
    let good = fs::read(shop.path("t.parquet")).unwrap();
    let footer = u32::from_le_bytes(good[good.len() - 8..good.len() - 4].try_into().unwrap()) as usize;
    let start = good.len() - 8 - footer;
    for at in (start..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 0xFF;
        fs::write(shop.path("t.parquet"), bytes).unwrap();
        let table = shop.session.table_provider("t").await.unwrap();
        drop(table);
    }
    fs::write(shop.path("t.parquet"), good).unwrap();
    assert_eq!(shop.rows("SELECT sum(id) FROM t").await, "6");
}

#[tokio::test]
async fn text_that_is_not_utf8_is_told_from_other_damage() {
    use datafusion::parquet::data_type::{ByteArray, ByteArrayType};
    use datafusion::parquet::file::writer::SerializedFileWriter;
    use datafusion::parquet::schema::parser::parse_message_type;

    let shop = Shop::new();
    let schema = std::sync::Arc::new(parse_message_type("message m { required binary name (UTF8); }").unwrap());
    let file = fs::File::create(shop.path("latin.parquet")).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[ByteArray::from(vec![b'M', 0xFC, b'n'])], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let error = shop.error("SELECT name FROM latin").await;
    assert_eq!(Error::find(&error), Some(&Error::NotUtf8 { path: "latin.parquet".into() }), "{error}");
}
