//! A client in this process, for commands that run SQL: on the socket, as anybody's client would be.

use std::io::{self, Write};

use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// Connects; what the server notices goes to the error stream. The task ends with the client.
pub(crate) async fn connect(host: &str, port: u16, name: &str) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
    let parameters = format!("host={host} port={port} user={name} application_name={name}");
    let (client, mut connection) = tokio_postgres::connect(&parameters, NoTls).await?;
    let notices = tokio::spawn(async move {
        while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            match message {
                Ok(AsyncMessage::Notice(notice)) => {
                    // a closed error stream leaves nobody to tell
                    let _ = writeln!(io::stderr(), "{}: {}", notice.severity(), notice.message());
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    });
    Ok((client, notices))
}

/// A failed statement as psql shows it.
pub(crate) fn sentence(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let detail = db.detail().map(|d| format!("\nDETAIL: {d}")).unwrap_or_default();
            let hint = db.hint().map(|h| format!("\nHINT: {h}")).unwrap_or_default();
            format!("{} ({}){detail}{hint}", db.message(), db.code().code())
        }
        None => error.to_string(),
    }
}
